"""Variants of a config: some of its settings, by their dotted names, with other values.

A variant is a mapping such as ``{"loss.gradient_scale": 1.0, "loss.unroll": 5}``.  Settings are
named as on the command line: ``environment.options.terrain``, ``figure3.sequences``.
"""

from __future__ import annotations

import dataclasses
import json
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from muscope.config import Config, to_dict
from muscope.config.base import from_dict
from muscope.errors import ConfigError, MuscopeError, nearest

Changes = Mapping[str, Any]
"""Settings by dotted name."""

BASE = "base"
"""The variant without changes."""
LONGEST = 100  # characters of a name
_NAME = re.compile(rf"[A-Za-z0-9][\w.=,+-]{{0,{LONGEST - 1}}}", re.ASCII)


def changed(base: Config, changes: Changes) -> Config:
    """A config with some settings changed.

    Args:
        base: with all settings of its environment and its experiments written out.
        changes: what differs.

    Raises:
        ConfigError: an unknown setting, or an impossible value or combination.

    """
    data = to_dict(base)
    for name, value in changes.items():
        *path, last = _path(base, name)
        free, table = _is_free(base, path[0]), data
        for part in path:
            table = table.setdefault(part, {}) if free else _inner(table, part, name)
        if not free:
            _inner(table, last, name)
        table[last] = value
    return from_dict(data, type(base))


def _inner(table: Any, part: str, name: str) -> Any:
    """What a table holds by one part of a setting's name.

    Raises:
        ConfigError: nothing, or it is no table.

    """
    known = table if isinstance(table, Mapping) else {}
    if part not in known:
        raise ConfigError(f"unknown setting '{name}'.{nearest(part, known) if known else ''}")
    return known[part]


def value_of(config: Config, name: str) -> Any:
    """A setting's value, as JSON; None where nothing is known of it.

    Raises:
        ConfigError: there is no such setting.

    """
    path = _path(config, name)
    value: Any = to_dict(config)
    for part in path:
        if _is_free(config, path[0]) and part not in value:
            return None
        value = _inner(value, part, name)
    return value


def _is_free(config: Config, section: str) -> bool:
    """Whether a section is a table of whatever is given, which others read and refuse."""
    return section != "experiments" and isinstance(getattr(config, section), Mapping)


def _path(config: Config, name: str) -> list[str]:
    """Where a setting stands in a config as JSON.

    Raises:
        ConfigError: it is in no section of settings, or may not be varied.

    """
    section, _, rest = name.partition(".")
    sections = [
        f.name for f in dataclasses.fields(config) if f.name not in ("preset", "experiments")
    ]
    known = [*sections, *config.experiments]
    if section not in known or not rest:
        mend = "" if section in known else nearest(section, known)
        raise ConfigError(f"'{name}' must be SECTION.SETTING, such as loss.unroll.{mend}")
    if name == "environment.name":
        raise ConfigError("'environment.name' cannot be varied: agents of one world are compared.")
    parts = ["experiments", section] if section in config.experiments else [section]
    if _is_free(config, parts[0]):
        return [*parts, *rest.split(".")]
    if rest.startswith("options.") and section == "environment":
        return [*parts, "options", *rest.removeprefix("options.").split(".")]
    return [*parts, rest]


def one_by_one(base: Config, varied: Iterable[tuple[str, Sequence[Any]]]) -> dict[str, Changes]:
    """A variant for each value of each setting, all others as in the base; the base's own values
    are left out.

    Args:
        base: with all settings of its environment and its experiments written out.
        varied: settings and their values.

    Raises:
        ConfigError: an unknown setting, one without values, or an impossible value.

    """
    found: dict[str, Changes] = {}
    wrong = []
    for name, values in varied:
        if not values:
            raise ConfigError(f"'{name}' needs values to take, as in: --vary {name} 1 2")
        plain = value_of(base, name)
        for value in values:
            try:
                # As the config has it, so that 1 and 1.0 are one variant.
                taken = value_of(changed(base, {name: value}), name)
            except ConfigError as error:
                wrong.append(f"'{name}={_as_name(value)}': {error}")
                continue
            if taken != plain:
                found[f"{name}={_as_name(taken)}"] = {name: taken}
    refuse_wrong(wrong)
    return found


def _as_name(value: Any) -> str:
    """A value as part of a folder's name."""
    if isinstance(value, list):
        return ",".join(map(_as_name, value))
    words = value if isinstance(value, str) else json.dumps(value)
    return re.sub(r"[^\w.=,+-]+", "-", words, flags=re.ASCII).strip("-")


def value_in_words(words: str, like: Any = None) -> Any:
    """A value on the command line: JSON (``0.5``, ``true``, ``[1, 2]``), or else a string.

    Args:
        words: as they were typed.
        like: the setting's value in the base; beside a string they are one too.

    """
    if isinstance(like, str):
        return words
    try:
        return json.loads({"True": "true", "False": "false", "None": "null"}.get(words, words))
    except ValueError:
        return words


def read(path: Path, before: Mapping[str, Changes] | None = None) -> dict[str, Changes]:
    """The variants of a TOML file, a table for each, in which settings have dotted names.

    Args:
        path: of the file.
        before: variants that were read before.

    Raises:
        ConfigError: there is no such file, it is not of this form, or a former variant of the same
            name is another one.

    """
    try:
        written = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"the variants of {path} cannot be read: {error}.") from error
    for name, table in written.items():
        if not isinstance(table, Mapping):
            raise ConfigError(f"{path}: '{name}' must be a table, a variant such as [{name}].")
    found: dict[str, Changes] = {n: dict(_flat(table)) for n, table in written.items()}
    for name, former in (before or {}).items():
        if found.get(name, former) != former:
            raise ConfigError(f"{path}: there is another variant '{name}'; rename one of them.")
    return found


def _flat(table: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Settings by dotted name; TOML nests what is dotted."""
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value


def all_of(base: Config, given: Mapping[str, Changes], taken: Iterable[str]) -> dict[str, Config]:
    """The configs of the base, by the name of :data:`BASE`, and of all variants, in order.

    Args:
        base: with all settings of its environment and its experiments written out.
        given: changes by the variant's name.
        taken: names that are not free.

    Raises:
        ConfigError: there are none, a name cannot be a folder's, settings cannot be, or two
            variants are the same.

    """
    configs = {BASE: base}
    wrong = []
    if not any(given.values()):
        raise ConfigError("there is nothing to vary; name settings with --vary or --variants.")
    for name, changes in given.items():
        if name == BASE and not changes:
            continue
        try:
            _refuse_name(name, [*configs, *taken])
            config = changed(base, changes)
        except MuscopeError as error:
            wrong.append(f"'{name}': {error}")
            continue
        twin = next((other for other, its in configs.items() if its == config), None)
        if twin is not None:
            wrong.append(f"'{name}': it is the same as '{twin}'; leave it out.")
        configs[name] = config
    refuse_wrong(wrong)
    return configs


def _refuse_name(name: str, taken: Iterable[str]) -> None:
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"it must be a folder's name: a letter or digit, then letters, digits and '.=,+-_', "
            f"{LONGEST} at most."
        )
    if name.lower() in {other.lower() for other in taken}:
        raise ConfigError("its name is taken; choose another.")


def refuse_wrong(wrong: Sequence[str]) -> None:
    """Raise if there is anything wrong with variants.

    Raises:
        ConfigError: there is; each is told.

    """
    if wrong:
        what = "one variant" if len(wrong) == 1 else f"{len(wrong)} variants"
        raise ConfigError(f"{what} cannot be built, and none was begun: {' '.join(wrong)}")
