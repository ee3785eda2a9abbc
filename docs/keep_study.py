"""Keeps a study's tables and pictures, or a sweep's comparison, in docs/, small enough for the
repository.

    python docs/keep_study.py runs/cart-pole-paper-seed0 cart-pole-paper

Then name the folder in ``docs/results/studies.toml`` and run ``python docs/write_studies.py``.
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

from muscope.storage import tables

HERE = Path(__file__).parent
LARGE = ("figure4", "figure4_states", "decisions", "equivalence")
"""Tables of every sequence or state, whose numbers are kept to four digits (12 bits)."""
BITS = 12
COLOURS = 128


def main(run: str, name: str) -> None:
    """Copy what the pages are written from."""
    results, figures = HERE / "results" / name, HERE / "figures" / name
    for folder in (results, figures):
        folder.mkdir(parents=True, exist_ok=True)
    kept = "tables" if (Path(run) / "tables").is_dir() else "compare"
    for path in sorted((Path(run) / kept).glob("*.parquet")):
        tables.copy(path, results / path.name, BITS if path.stem in LARGE else None)
    for path in sorted((Path(run) / "figures").glob("*.png")):
        Image.open(path).convert("RGB").quantize(COLOURS).save(figures / path.name, optimize=True)
    for folder in (results, figures):
        size = sum(path.stat().st_size for path in folder.iterdir())
        print(f"{folder}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main(*sys.argv[1:])
