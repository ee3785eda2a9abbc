"""Writes pages of the documentation from the tables of sweeps' comparisons.

    python docs/write_sweeps.py            # write docs/ingredients.md and docs/regimes.md
    python docs/write_sweeps.py --check    # fail if it is not what the tables say

``docs/results/PAGE.txt`` is a page's prose.  ``python docs/keep_study.py
runs/cart-pole-ingredients cart-pole-ingredients`` keeps what ``muscope sweep`` wrote into its
folder ``compare``.  In the prose {consistency.return} is how far that variant's return differs
from the base's at the end of training, with its interval, {consistency.return through} the same of
the mean through training; {base.return} is the base's own mean.  With a ! before the brace the
difference must be one that is claimed, or the page is not written.
[ending] and [through] stand for tables of all variants, [claims] for the claims that not all
variants decide alike, [sizes 2 4b] for what each variant says of claims 2 and 4b, with sizes.
{lander:consistency.return} and [lander:ending] are of the page's other sweep of that name.
Writing a page draws its pictures.
"""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image
from write_studies import grid, verdict, wrapped

from muscope.comparison.differences import DIFFERS, THROUGH, told
from muscope.comparison.draw import draw_differences
from muscope.storage import tables

HERE = Path(__file__).parent
PAGES = {
    "ingredients": {
        "": "cart-pole-ingredients",
        "again": "cart-pole-latent-distance",
        "lander": "lunar-lander-losses",
        "regimes": "cart-pole-regimes",
    },
    "regimes": {"": "cart-pole-regimes"},
}
"""The sweeps of a page: their names in its prose, and their folders of tables."""
BASE = "base"
SWEEP = r"(?:([\w-]+):)?"
NUMBER = re.compile(rf"\{{{SWEEP}([\w.=-]+)\.(\w+)( through)?(!)?\}}")
BLOCK = re.compile(rf"\[{SWEEP}(ending|through|claims|sizes)((?: \w+)*)\]")


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
    *(("short", True), ("long", True), ("all", True), ("order", True)),
)
"""Of the picture: a column, and whether it is the mean through training."""


class Sweep:
    """What a sweep's comparison says."""

    def __init__(self, name: str):
        folder = HERE / "results" / name
        self.picture = HERE / "figures" / name / "differences.png"
        self.differences = tables.read(folder / "differences.parquet").to_pylist()
        self.claims = [
            row
            for row in tables.read(folder / "claims.parquet").to_pylist()
            if row["reading"] == "current"
        ]
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


def sizes(sweep: Sweep, chosen: list[str]) -> str:
    """What every variant says of some claims."""
    found = {(row["run"], row["claim"]): row for row in sweep.claims}
    texts = {row["claim"]: row["text"] for row in sweep.claims}
    rows = [[run, *(verdict(found[run, claim]) for claim in chosen)] for run in (BASE, *sweep.runs)]
    return grid(["variant", *(f"{claim}: {texts[claim]}" for claim in chosen)], rows)


BLOCKS: dict[str, Callable[[Sweep, list[str]], str]] = {
    "ending": lambda sweep, _: differences(sweep, through=False),
    "through": lambda sweep, _: differences(sweep, through=True),
    "claims": lambda sweep, _: claims(sweep),
    "sizes": sizes,
}


def sweeps(name: str) -> dict[str, Sweep]:
    """Those of a page, by their names in its prose."""
    return {short: Sweep(folder) for short, folder in PAGES[name].items()}


def page(name: str) -> str:
    """The prose, numbers and tables put in."""
    of = sweeps(name)

    def number(match: re.Match[str]) -> str:
        short, run, key, through, claimed = match.groups()
        sweep = of[short or ""]
        if run == BASE:
            return f"{sweep.base(key, bool(through)):.3g}"
        row = sweep.difference(run, key, bool(through))
        assert row is not None, f"{match.group()}: there is no such difference"
        assert not claimed or row["verdict"] in DIFFERS, f"{match.group()} is not claimed"
        return told(row).removeprefix("x ")

    prose = (HERE / "results" / f"{name}.txt").read_text()
    parts = []
    for part in NUMBER.sub(number, prose).strip().split("\n\n"):
        block = BLOCK.fullmatch(part)
        if block:
            short, kind, chosen = block.groups()
            parts.append(BLOCKS[kind](of[short or ""], chosen.split()))
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
    sweep.picture.parent.mkdir(parents=True, exist_ok=True)
    Image.open(buffer).convert("RGB").quantize(128).save(sweep.picture, optimize=True)


def main() -> None:
    written = {HERE / f"{name}.md": page(name) for name in PAGES}
    if sys.argv[1:] == ["--check"]:
        stale = [path.name for path, text in written.items() if path.read_text() != text]
        sys.exit(f"not what the tables say: {', '.join(stale)}" if stale else 0)
    for path, text in written.items():
        path.write_text(text)
    for folder in {folder for of in PAGES.values() for folder in of.values()}:
        draw(Sweep(folder))


if __name__ == "__main__":
    main()
