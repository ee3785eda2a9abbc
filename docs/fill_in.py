"""Run a page's Python listings in order, and write what each prints into the block below it.

    python docs/fill_in.py docs/tutorial.md

The listings share their names, as in one session.
"""

from __future__ import annotations

import contextlib
import io
import re
import sys
from pathlib import Path

BLOCK = re.compile(
    r"```python\n(?P<code>.*?)```\n(?P<between>\n*)(?:```text\n.*?```\n)?", re.DOTALL
)


def filled(page: str) -> str:
    """The page with what its listings print."""
    names: dict[str, object] = {}

    def run(block: re.Match[str]) -> str:
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            exec(compile(block["code"], "listing", "exec"), names)
        shown = f"```text\n{said.getvalue()}```\n" if said.getvalue() else ""
        return f"```python\n{block['code']}```\n{block['between']}{shown}"

    return BLOCK.sub(run, page)


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(filled(path.read_text()))
