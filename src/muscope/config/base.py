"""What every settings class is: frozen, typed, bounded beside the field, written and read as JSON.

A settings class is ``@dataclass(frozen=True) class X(Settings)``.  A field's type carries its
bounds (:data:`Count`, :data:`Share`, ...) and ``--help`` shows them.  A value of another type or
beyond its bounds is refused when the object is made, be it from Python, JSON or a flag; only
conditions between fields are left to :meth:`Settings.check`.  Nothing here imports JAX.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import typing
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, TypeVar

import tyro
from annotated_types import Ge, Gt, Le
from pydantic import ConfigDict, TypeAdapter, ValidationError

from muscope.errors import ConfigError, nearest

MOST = 2**31 - 1

Count = Annotated[int, Ge(1), Le(MOST), tyro.conf.arg(metavar="INT>=1")]
Whole = Annotated[int, Ge(0), Le(MOST), tyro.conf.arg(metavar="INT>=0")]
Seed = Annotated[int, Ge(0), Le(2**32 - 1), tyro.conf.arg(metavar="INT 0..2^32-1")]
Positive = Annotated[float, Gt(0.0), tyro.conf.arg(metavar="FLOAT>0")]
NonNegative = Annotated[float, Ge(0.0), tyro.conf.arg(metavar="FLOAT>=0")]
Share = Annotated[float, Ge(0.0), Le(1.0), tyro.conf.arg(metavar="FLOAT 0..1")]
PositiveShare = Annotated[float, Gt(0.0), Le(1.0), tyro.conf.arg(metavar="FLOAT >0..1")]

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


@functools.cache
def _field(cls: type[Settings], name: str) -> Any:
    """What accepts the values of one field."""
    hint = typing.get_type_hints(cls, include_extras=True)[name]
    nested = isinstance(hint, type) and issubclass(hint, Settings)
    return TypeAdapter(hint, config=None if nested else _STRICT)


@functools.cache
def _whole(cls: type[Settings]) -> Any:
    return TypeAdapter(cls)


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


def _in_words(error: ValidationError, cls: type, path: str) -> str:
    """The first of a validation's errors in one line that names the setting."""
    first = error.errors(include_url=False)[0]
    where = ".".join([*([path] if path else []), *(str(part) for part in first["loc"])])
    if first["type"] == "unexpected_keyword_argument":
        *outer, key = first["loc"]
        return f"unknown setting '{where}'.{nearest(str(key), _names(cls, outer))}"
    if first["type"] == "dataclass_type":
        return f"'{where or 'config'}' must be a table of settings, not {first['input']!r}."
    reason = first["msg"].removeprefix("Input should be ")
    return f"{where} is {first['input']!r}; it must be {reason}."


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
