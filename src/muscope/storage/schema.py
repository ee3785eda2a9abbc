"""What a table's columns are: name, type, meaning and unit, each stated once.

An experiment declares its tables with these; they make the Arrow schema, whose fields carry the
meaning and the unit as metadata, and the tables of the documentation.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa


@dataclass(frozen=True)
class Column:
    """One column."""

    name: str
    type: pa.DataType
    meaning: str
    unit: str = ""
    """Empty for numbers without one: counts, probabilities, names."""

    def field(self) -> pa.Field:
        """The Arrow field, with meaning and unit as its metadata."""
        about = {"meaning": self.meaning, **({"unit": self.unit} if self.unit else {})}
        return pa.field(self.name, self.type, metadata=about)


def integer(name: str, meaning: str, unit: str = "") -> Column:
    """A column of whole numbers."""
    return Column(name, pa.int64(), meaning, unit)


def number(name: str, meaning: str, unit: str = "") -> Column:
    """A column of real numbers."""
    return Column(name, pa.float64(), meaning, unit)


def text(name: str, meaning: str) -> Column:
    """A column of strings."""
    return Column(name, pa.string(), meaning)


AGENT = integer("agent", "the agent, 0..P-1")
STEP = integer("step", "training step of the checkpoint")
TEMPERATURE = number("temperature", "T of Equation 1 at that step")


@dataclass(frozen=True)
class Schema:
    """One table of an experiment."""

    name: str
    """Its file's name."""
    rows: str
    """What a row is, in words."""
    columns: tuple[Column, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The columns' names."""
        return tuple(column.name for column in self.columns)

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
