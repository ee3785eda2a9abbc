"""What every settings class is: frozen, typed, bounded beside the field, written and read as JSON.

A settings class is ``@dataclass(frozen=True) class X(Settings)``.  A field's type carries its
bounds (:data:`Count`, :data:`Share`, ...) and ``--help`` shows them.  Bounds of equal meaning are
one type here.  They end where no use is sensible, so that a slip of the hand is told as one; what
fits into memory is another question (:mod:`muscope.training.memory`).  A value of another type or
beyond its bounds is refused when the object is made, be it from Python, JSON or a flag; only
conditions between fields are left to :meth:`Settings.check`.  Nothing here imports JAX.
"""

from __future__ import annotations

import dataclasses
import json
import re
import typing
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, TypeVar

import tyro
from annotated_types import Interval, MaxLen
from pydantic import ConfigDict, TypeAdapter, ValidationError

from muscope.errors import ConfigError, nearest


def within(least: int | float, most: int | float) -> tuple[Any, ...]:
    """The bounds of a number, and how ``--help`` shows them; both ends belong to it."""
    kind = "INT" if isinstance(most, int) else "FLOAT"
    return Interval(ge=least, le=most), tyro.conf.arg(metavar=f"{kind} {_span(least, most)}")


def several(least: int | float, most: int | float) -> tuple[Any, ...]:
    """The greatest length of a tuple, and how ``--help`` shows it and its numbers' bounds."""
    kind = "INT" if isinstance(most, int) else "FLOAT"
    return MaxLen(MOST_ITEMS), tyro.conf.arg(metavar=f"[{kind} {_span(least, most)} ...]")


def _span(least: int | float, most: int | float) -> str:
    return re.sub(r"e([+-])0*", lambda e: "e" + e[1].strip("+"), f"{least:.6g}..{most:.10g}")


SMALL, LARGE = 1e-9, 1e6
"""Of positive real numbers: float32 still divides by the one, and squares of the other fit."""
MOST_ITEMS = 1_000
MOST_SHOWN = 80  # characters of a value in a message

Count = Annotated[int, *within(1, 1_000_000)]
Whole = Annotated[int, *within(0, 1_000_000)]
Seed = Annotated[int, Interval(ge=0, le=2**32 - 1), tyro.conf.arg(metavar="INT 0..2^32-1")]
Agents = Annotated[int, *within(1, 10_000)]
Rows = Annotated[int, *within(1, 1_000_000_000)]
"""Of the replay."""
Steps = Annotated[int, *within(1, 1_000_000_000)]
"""Of training, counted in updates."""
Step = Annotated[int, *within(0, 1_000_000_000)]
"""One of them; 0 is before training."""
Checkpoints = Annotated[tuple[Step, ...], *several(0, 1_000_000_000)]
Units = Annotated[int, *within(1, 1_000_000)]
"""Of a layer or a latent state."""
Bins = Annotated[int, *within(2, 10_000)]
"""Of a categorical head."""
Simulations = Annotated[int, *within(1, 2_000)]
"""Of a search; its node sets are unrolled when it is compiled, in words of 32."""
Budgets = Annotated[tuple[Simulations, ...], *several(1, 2_000)]
Lookahead = Annotated[int, *within(1, 500)]
"""Steps of a training target, whose loop is unrolled when it is compiled."""
Horizon = Annotated[int, *within(1, 10_000)]
"""Of an evaluation or a plan."""
HorizonOrNone = Annotated[int, *within(0, 10_000)]
"""The same, where 0 has a meaning of its own."""
Positive = Annotated[float, *within(SMALL, LARGE)]
NonNegative = Annotated[float, *within(0.0, LARGE)]
Weight = Annotated[float, *within(0.0, 1e4)]
"""Of a term of the loss."""
Names = Annotated[tuple[str, ...], MaxLen(MOST_ITEMS), tyro.conf.arg(metavar="[NAME ...]")]
"""Of a registry's own, or of users' (FILE.py:NAME)."""
UnitsOrNone = Annotated[int, *within(0, 1_000_000)]
"""As Units, where 0 has a meaning of its own."""
Temperatures = Annotated[
    tuple[Positive, Positive, Positive],
    tyro.conf.arg(metavar=" ".join([f"FLOAT {_span(SMALL, LARGE)}"] * 3)),
]
Factors = Annotated[tuple[Annotated[float, *within(-LARGE, LARGE)], ...], *several(-LARGE, LARGE)]
Share = Annotated[float, *within(0.0, 1.0)]
PositiveShare = Annotated[float, *within(SMALL, 1.0)]

_STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
AnySettings = TypeVar("AnySettings", bound="Settings")


@dataclasses.dataclass(frozen=True)
class Settings:
    """Base of all settings classes.

    Raises:
        ConfigError: on making one with a value that cannot be; the message names the setting.

    """

    __pydantic_config__ = _STRICT
    section: ClassVar[str] = ""
    """Where the settings stand in a config, for messages: ``train``, ``figure3``."""

    def __post_init__(self) -> None:
        for f in dataclasses.fields(self):
            try:
                value = _field(type(self), f.name).validate_python(getattr(self, f.name))
            except ValidationError as error:
                raise ConfigError(_in_words(error, type(self), self._path(f.name))) from None
            object.__setattr__(self, f.name, value)
        self.check()

    def check(self) -> None:
        """Raise ConfigError for an impossible combination of fields."""

    def _path(self, name: str) -> str:
        return f"{self.section}.{name}" if self.section else name


_ADAPTERS: dict[tuple[Any, str], TypeAdapter] = {}


def _field(cls: Any, name: str) -> Any:
    """What accepts the values of one field."""
    if (cls, name) not in _ADAPTERS:
        hint = typing.get_type_hints(cls, include_extras=True)[name]
        nested = isinstance(hint, type) and issubclass(hint, Settings)
        _ADAPTERS[cls, name] = TypeAdapter(hint, config=None if nested else _STRICT)
    return _ADAPTERS[cls, name]


def _whole(cls: Any) -> Any:
    """What reads a whole settings class."""
    if (cls, "") not in _ADAPTERS:
        _ADAPTERS[cls, ""] = TypeAdapter(cls)
    return _ADAPTERS[cls, ""]


def plain(value: Any, name: str) -> Any:
    """A mapping in the form in which JSON gives it back, so that equal settings are equal.

    Raises:
        ConfigError: it holds something else than JSON's types.

    """
    try:
        return json.loads(json.dumps(dict(value), allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError(f"{name} must be plain JSON: {error}.") from error


def to_dict(settings: Settings) -> dict[str, Any]:
    """Settings as plain JSON types."""
    return json.loads(json.dumps(dataclasses.asdict(settings)))


def from_dict(data: Any, cls: type[AnySettings], path: str = "") -> AnySettings:
    """The settings that :func:`to_dict` wrote; what is not there has its default.

    Args:
        data: JSON's types.
        cls: the settings' class.
        path: where they stand, for messages; the class's own section by default.

    Raises:
        ConfigError: an unknown key (with the nearest known one), a value of another type or
            beyond its bounds, or an impossible combination.

    """
    try:
        return _whole(cls).validate_json(json.dumps(data), strict=True)
    except ValidationError as error:
        raise ConfigError(_in_words(error, cls, path or cls.section)) from None
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError(
            f"{path or cls.section or 'config'} must be plain JSON: {error}."
        ) from error


def _in_words(error: ValidationError, cls: type, path: str) -> str:
    """The first of a validation's errors in one line that names the setting."""
    first = error.errors(include_url=False)[0]
    parts = [_shown(part).strip("'") for part in first["loc"]]
    where = ".".join([*([path] if path else []), *parts])
    if first["type"] == "unexpected_keyword_argument":
        *outer, key = first["loc"]
        return f"unknown setting '{where}'.{nearest(str(key), _names(cls, outer))}"
    if first["type"] == "dataclass_type":
        return f"'{where or 'config'}' must be a table of settings, not {_shown(first['input'])}."
    reason = first["msg"].removeprefix("Input should be ")
    return f"{where} is {_shown(first['input'])}; it must be {reason}."


def _shown(value: Any) -> str:
    """A value in one short line."""
    if isinstance(value, int) and value.bit_length() > MOST_SHOWN:  # Python may refuse to print it.
        return f"a number of {value.bit_length()} bits"
    text = repr(value)
    return text if len(text) <= MOST_SHOWN else f"{text[: MOST_SHOWN - 3]}..."


def _names(cls: type, path: list[Any]) -> list[str]:
    """The fields of the settings class at a path inside another."""
    for name in path:
        cls = typing.get_type_hints(cls)[name]
    return [f.name for f in dataclasses.fields(cls)]


def differences(a: Mapping[str, Any], b: Mapping[str, Any], path: str = "") -> list[str]:
    """Dotted names of what differs in two tables of JSON's types, with both values."""
    different: list[str] = []
    for key in sorted({*a, *b}):
        name = f"{path}.{key}" if path else key
        x, y = a.get(key), b.get(key)
        if isinstance(x, Mapping) and isinstance(y, Mapping):
            different += differences(x, y, name)
        elif x != y:
            different.append(f"{name} ({x} != {y})")
    return different
