"""How mutated settings end: accepted, or refused in one line.

python benchmarks/mutations.py [--files N] [--lines N] [--trainings N] [--seed S]

Tries mutated config.json files and command lines (``tests/mutations.py`` makes them from the
settings' own fields and bounds), all or a seeded sample, and trains some of the accepted settings
for a few rounds.  Prints the counts, and whatever ended otherwise; exits with 1 if anything did.
"""

from __future__ import annotations

import argparse
import collections
import random
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from mutations import (  # type: ignore[import-not-found]
    WORLDS,
    Bench,
    Outcome,
    is_short,
    line_of,
    of_files,
    of_lines,
    trains,
)


def told(name: str, tried: list[tuple[str, Outcome]], began: float) -> int:
    """Print the counts; returns how many ended otherwise than they should."""
    wrong = [(words, outcome) for words, outcome in tried if outcome.wrong]
    ends = collections.Counter(outcome.accepted for _, outcome in tried)
    print(
        f"{len(tried):5d} {name}: {ends[True]} accepted, {ends[False]} refused, "
        f"{len(wrong)} wrong; {time.monotonic() - began:.0f} s",
        flush=True,
    )
    for words, outcome in wrong:
        print(f"      {words}: {outcome.wrong} {outcome.said}", flush=True)
    return len(wrong)


def main() -> int:
    """Try them."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--files", type=int, default=0, help="0 for all")
    parser.add_argument("--lines", type=int, default=0, help="0 for all")
    parser.add_argument("--trainings", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    rng = random.Random(chosen.seed)

    def some(everything: list, count: int) -> list:
        return rng.sample(everything, min(count, len(everything))) if count else everything

    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        bench, began = Bench(Path(folder)), time.monotonic()
        files = [(m, bench.try_file(m)) for m in some(of_files(), chosen.files)]
        wrong += told("config.json", [(m.words, outcome) for m, outcome in files], began)
        bench.write(WORLDS[0])
        began = time.monotonic()
        lines = [line_of(m, bench.run, rng) for m in some(of_lines(), chosen.lines)]
        wrong += told("lines", [(" ".join(x)[:200], bench.try_line(x)) for x in lines], began)
    trained = ("network", "search", "replay", "loss", "optimiser", "train")
    short = [
        (m.words, outcome.config)
        for m, outcome in files
        if outcome.config and m.path[0] in trained and is_short(outcome.config)
    ]
    began, ends = time.monotonic(), []
    for words, config in rng.sample(short, min(chosen.trainings, len(short))):
        ends.append((words, Outcome(True, "", trains(config))))
    return wrong + told("trainings", ends, began)


if __name__ == "__main__":
    sys.exit(1 if main() else 0)
