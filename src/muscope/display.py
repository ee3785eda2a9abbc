"""How objects show themselves in a notebook."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape


def table(title: str, head: Sequence[object], rows: Iterable[Iterable[object]]) -> str:
    """An HTML table under a title; texts are shown as they are, HTML in them included."""
    names = "".join(f"<th>{escape(str(name))}</th>" for name in head)
    cells = ("".join(f"<td>{escape(_shown(value))}</td>" for value in row) for row in rows)
    body = "".join(f"<tr>{row}</tr>" for row in cells)
    head_row = f"<thead><tr>{names}</tr></thead>" if names else ""
    return f"<p><b>{escape(title)}</b></p><table>{head_row}<tbody>{body}</tbody></table>"


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
