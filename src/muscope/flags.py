"""Flags of the command line: settings classes to flags, and mistakes in them in one line."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any

import tyro

from muscope.config import Config, EvaluateConfig
from muscope.errors import FlagError

RULE = re.compile(r"^(╭─ .*╮|-{3,}|─{3,})$")
"""What stands between the parts of a message of tyro's."""
SUGGESTED = ("perhaps you meant", "similar")
"""What tyro's lists of known flags begin with."""


def parser(
    options: Any, config: Config | EvaluateConfig, extra: dict[str, Any], prog: str, about: str
) -> Callable[[list[str]], tuple[Any, Any, dict[str, Any]]]:
    """A parser of a command's options, the config's settings and further sections.

    Args:
        options: the command's own, with their defaults.
        config: its settings with their defaults; an EvaluateConfig stands under ``--evaluate``.
        extra: settings by the prefix of their flags.
        prog: the command, for the help.
        about: what it does.

    Returns:
        The parser: arguments to options, config and the further settings.

    """
    prefix = "" if isinstance(config, Config) else "evaluate"
    places = {name: f"section_{i}" for i, name in enumerate(extra)}
    prefixed = [("options", "", options), ("config", prefix, config)]
    prefixed += [(places[name], name, settings) for name, settings in extra.items()]
    fields: list[Any] = [
        (field, under(name, type(value)), dataclasses.field(default=value))
        for field, name, value in prefixed
    ]
    made = dataclasses.make_dataclass("Flags", fields)

    def parse(arguments: list[str]) -> tuple[Any, Any, dict[str, Any]]:
        parsed = read(made, arguments, prog=prog, description=about)
        sections = {name: getattr(parsed, place) for name, place in places.items()}
        return parsed.options, parsed.config, sections

    return parse


def under(prefix: str, kind: Any) -> Any:
    """A settings class whose flags begin with a prefix."""
    return Annotated[kind, tyro.conf.arg(name=prefix)]


def read(kind: Any, arguments: Sequence[str], **more: Any) -> Any:
    """``tyro.cli``, with its refusals in one line.

    Raises:
        FlagError: an unknown flag, with the nearest known one, or a value that cannot be read.

    """
    with _in_one_line():
        return tyro.cli(kind, args=arguments, config=(tyro.conf.FlagConversionOff,), **more)


def switched(arguments: Sequence[str], *switches: str) -> list[str]:
    """The arguments, in which flags that stand alone are switches turned on: ``--chosen`` is
    ``--chosen True``.
    """
    values = [*arguments[1:], ""]
    return [
        part
        for word, value in zip(arguments, values, strict=True)
        for part in (
            (word, "True") if word in switches and value not in ("True", "False") else (word,)
        )
    ]


@contextlib.contextmanager
def _in_one_line() -> Iterator[None]:
    """Turn the box that tyro prints before it exits into an error.

    The box is read because tyro's hook for errors is private.  Help goes to the standard output
    and stays as it is.
    """
    box = io.StringIO()
    try:
        with contextlib.redirect_stderr(box):
            yield
    except SystemExit as stop:
        if not stop.code:
            raise
        raise FlagError(in_words(box.getvalue())) from None
    sys.stderr.write(box.getvalue())  # Warnings.


def in_words(box: str) -> str:
    """What a box of tyro's says: its first section, and the first flag that it suggests."""
    # A title, the message, and more, with rules between; without UTF-8 there is no frame.
    sections: list[list[str]] = [[]]
    for line in re.sub(r"\x1b\[[0-9;]*m", "", box).splitlines():
        inner = line.strip("│╭╮╰╯─ ")
        if RULE.match(line.strip("│ ")):
            sections.append([])
        elif inner:
            sections[-1].append(inner)
    said = sections[1] if len(sections) > 1 else sections[0]
    message = " ".join(said)
    for section in sections[2:]:
        text = " ".join(section)
        flag = re.search(r"--[\w.-]+", text)
        if flag and any(word in text.lower() for word in SUGGESTED):
            return f"{message}. Did you mean '{flag[0]}'?"
    return message if message.endswith(".") else f"{message}."
