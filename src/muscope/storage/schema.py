"""What a table's columns are: name, type, meaning and unit, each stated once.

An experiment declares its tables with these; they make the Arrow schema, whose fields carry the
meaning and the unit as metadata, and the tables of the documentation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc


@dataclass(frozen=True)
class Column:
    """One column."""

    name: str
    type: pa.DataType
    meaning: str
    unit: str = ""
    """Empty for numbers without one: counts, probabilities, names."""
    measured: bool = False
    """Whether it is a result, which an agent that diverged does not have: null there."""
    undefined: bool = False
    """Whether NaN is a result too: nothing was observed.  Elsewhere NaN is an error."""

    def field(self) -> pa.Field:
        """The Arrow field, with meaning and unit as its metadata."""
        about = {"meaning": self.meaning, **({"unit": self.unit} if self.unit else {})}
        return pa.field(self.name, self.type, metadata=about)


def integer(name: str, meaning: str, unit: str = "", measured: bool = False) -> Column:
    """A column of whole numbers: places, sizes and settings, unless it is ``measured``."""
    return Column(name, pa.int64(), meaning, unit, measured)


def number(
    name: str, meaning: str, unit: str = "", measured: bool = True, undefined: bool = False
) -> Column:
    """A column of real numbers: results, unless it is not ``measured``; NaN only if it may be
    ``undefined``.
    """
    return Column(name, pa.float64(), meaning, unit, measured, undefined)


def text(name: str, meaning: str) -> Column:
    """A column of strings."""
    return Column(name, pa.string(), meaning)


AGENT = integer("agent", "the agent, 0..P-1")
STEP = integer("step", "training step of the checkpoint")
TEMPERATURE = number("temperature", "T of Equation 1 at that step", measured=False)


@dataclass(frozen=True)
class Schema:
    """One table of an experiment."""

    name: str
    """Its file's name."""
    rows: str
    """What a row is, in words."""
    columns: tuple[Column, ...]
    """Those named ``step`` or ``..._step`` hold training steps of checkpoints."""

    @property
    def names(self) -> tuple[str, ...]:
        """The columns' names."""
        return tuple(column.name for column in self.columns)

    def without(self, rows: pa.Table, sound: Callable[[int, int], bool]) -> pa.Table:
        """Rows of the table, with null for what was measured on agents that are not sound.

        Args:
            rows: with an ``agent`` column.
            sound: whether an agent (its number, a training step) has finite parameters.

        """
        steps = [name for name in self.names if name == "step" or name.endswith("_step")]
        places = zip(rows["agent"].to_pylist(), *(rows[s].to_pylist() for s in steps), strict=True)
        broken = pa.array([not all(sound(agent, step) for step in at) for agent, *at in places])
        for i, column in enumerate(self.columns):
            if column.measured:
                values = pc.if_else(broken, pa.scalar(None, column.type), rows[column.name])
                rows = rows.set_column(i, rows.schema.field(i), values)
        return rows

    def broken(self, rows: pa.Table) -> str | None:
        """The first column with a number that is not finite where one must be; nulls may be."""
        for column in self.columns:
            if column.undefined or not pa.types.is_floating(column.type):
                continue
            if not pc.all(pc.is_finite(rows[column.name]), min_count=0).as_py():
                return column.name
        return None

    def arrow(self) -> pa.Schema:
        """As Arrow has it, the settings' columns not included."""
        return pa.schema([column.field() for column in self.columns])

    def markdown(self) -> str:
        """The columns as a table of a document."""
        lines = ["| column | type | unit | meaning |", "|---|---|---|---|"]
        for c in self.columns:
            meaning = c.meaning.replace("|", "\\|")  # A bare one would end the cell.
            lines.append(f"| `{c.name}` | {c.type} | {c.unit} | {meaning} |")
        return "\n".join(lines)
