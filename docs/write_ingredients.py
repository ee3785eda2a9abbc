"""Writes docs/ingredients.md from the tables of a sweep's comparison.

    python docs/write_ingredients.py            # write it
    python docs/write_ingredients.py --check    # fail if it is not what the tables say

``python docs/keep_study.py runs/cart-pole-ingredients cart-pole-ingredients`` keeps what ``muscope
sweep`` wrote into its folder ``compare``.  Beside it stands ``page.txt``: prose in which
{consistency.return} is how far that variant's return differs from the base's at the end of
training, with its interval, {consistency.return through} the same of the mean through training,
and {base.return} the base's own mean.  With a ! before the brace the difference must be one that is
claimed, or the page is not written.  [ending] and [through] stand for tables of all variants,
[claims] for the claims that not all variants decide alike.  Writing the page draws its picture.
"""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image
from write_studies import grid, wrapped

from muscope.comparison.differences import DIFFERS, THROUGH, told
from muscope.comparison.draw import draw_differences
from muscope.storage import tables

HERE = Path(__file__).parent
PAGE = HERE / "ingredients.md"
SWEEP = HERE / "results" / "cart-pole-ingredients"
PICTURE = HERE / "figures" / "cart-pole-ingredients" / "differences.png"
BASE = "base"
NUMBER = re.compile(r"\{([\w.=-]+)\.(\w+)( through)?(!)?\}")


class Column(NamedTuple):
    """One of the measures that the tables show."""

    head: str
    experiment: str
    measure: str


COLUMNS = {
    "return": Column("return of MCTS", "figure2", "return of MCTS"),
    "prior": Column("return of the prior", "figure2", "return of policy prior"),
    "short": Column("Figure 3, h = 1", "figure3", "value error, h = 1"),
    "long": Column("Figure 3, h = 10", "figure3", "value error, h = 10"),
    "likely": Column("Figure 4, likely sequences", "figure4", "error, likely sequences"),
    "all": Column("Figure 4, all sequences", "figure4", "error, all sequences"),
    "order": Column(
        "order-10 error", "equivalence", "order-h error, own policy and function, h = 10"
    ),
    "guided": Column(
        "Figure 7, guided search", "figure7", "learned model, policy prior, value leaves"
    ),
    "free": Column(
        "Figure 7, free search", "figure7", "learned model, uniform prior, value leaves"
    ),
    "rolled": Column(
        "the same, rollouts", "figure7", "learned model, uniform prior, rollout leaves"
    ),
}

PANELS = (
    *(("return", True), ("prior", True), ("free", False)),
    *(("long", True), ("all", True), ("order", True)),
)
"""Of the picture: a column, and whether it is the mean through training."""


class Sweep:
    """What a sweep's comparison says."""

    def __init__(self, folder: Path):
        self.differences = tables.read(folder / "differences.parquet").to_pylist()
        self.claims = [
            row
            for row in tables.read(folder / "claims.parquet").to_pylist()
            if row["reading"] == "current"
        ]
        self.prose = (folder / "page.txt").read_text()
        self.runs = list(dict.fromkeys(row["run"] for row in self.differences))

    def difference(self, run: str, key: str, through: bool = False) -> dict[str, Any] | None:
        """The row of a variant and a measure, at the last place or through training."""
        _, experiment, measure = COLUMNS[key]
        found = [
            row
            for row in self.differences
            if (row["run"], row["experiment"], row["measure"]) == (run, experiment, measure)
            and (row["at"] == THROUGH) == through
        ]
        assert len(found) < 2, f"{run}: {measure} comes {len(found)} times"
        return found[0] if found else None

    def base(self, key: str, through: bool = False) -> float:
        """The base's mean, which every difference is taken from."""
        rows = [self.difference(run, key, through) for run in self.runs]
        return next(row["reference_mean"] for row in rows if row is not None)


def cell(row: dict[str, Any] | None) -> str:
    """A difference in a table, bold where it is claimed."""
    if row is None:
        return "-"
    return f"**{told(row)}**" if row["verdict"] in DIFFERS else told(row)


def differences(sweep: Sweep, through: bool) -> str:
    """All variants, less the base."""
    keys = [
        key for key in COLUMNS if any(sweep.difference(run, key, through) for run in sweep.runs)
    ]
    rows = [[BASE, *(f"{sweep.base(key, through):.3g}" for key in keys)]]
    rows += [
        [run, *(cell(sweep.difference(run, key, through)) for key in keys)] for run in sweep.runs
    ]
    return grid(["variant", *(COLUMNS[key].head for key in keys)], rows)


def claims(sweep: Sweep) -> str:
    """Claims that not all variants decide alike."""
    texts = {row["claim"]: row["text"] for row in sweep.claims}
    verdicts = {(row["claim"], row["run"]): row["verdict"] for row in sweep.claims}
    runs = [BASE, *sweep.runs]
    rows = []
    for claim, text in texts.items():
        of = {run: verdicts.get((claim, run), "missing") for run in runs}
        if len(set(of.values())) > 1:
            cells = [
                f"**{verdict}**" if verdict != of[BASE] else verdict for verdict in of.values()
            ]
            rows.append([claim, text, *cells])
    return grid(["", "the paper says", *runs], rows)


def page(sweep: Sweep) -> str:
    """The prose, numbers and tables put in."""

    def number(match: re.Match[str]) -> str:
        run, key, through, claimed = match.groups()
        if run == BASE:
            return f"{sweep.base(key, bool(through)):.3g}"
        row = sweep.difference(run, key, bool(through))
        assert row is not None, f"{match.group()}: there is no such difference"
        assert not claimed or row["verdict"] in DIFFERS, f"{match.group()} is not claimed"
        return told(row).removeprefix("x ")

    blocks = {
        "[ending]": lambda: differences(sweep, through=False),
        "[through]": lambda: differences(sweep, through=True),
        "[claims]": lambda: claims(sweep),
    }
    parts = []
    for part in NUMBER.sub(number, sweep.prose).strip().split("\n\n"):
        if part in blocks:
            parts.append(blocks[part]())
        elif part.startswith(("```", "#", "!")):
            parts.append(part)
        else:
            items = re.split(r"\n(?=- )", part)
            parts.append("\n".join(wrapped(" ".join(item.split())) for item in items))
    return "\n\n".join(parts) + "\n"


def draw(sweep: Sweep) -> None:
    """The picture: what most is said of."""
    rows = [sweep.difference(run, *panel) for panel in PANELS for run in sweep.runs]
    names = [BASE, *sweep.runs]
    buffer = io.BytesIO()
    draw_differences([row for row in rows if row is not None], names).savefig(buffer, dpi=110)
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    Image.open(buffer).convert("RGB").quantize(128).save(PICTURE, optimize=True)


def main() -> None:
    sweep = Sweep(SWEEP)
    written = page(sweep)
    if sys.argv[1:] == ["--check"]:
        sys.exit(0 if PAGE.read_text() == written else f"{PAGE} is not what the tables say")
    PAGE.write_text(written)
    draw(sweep)


if __name__ == "__main__":
    main()
