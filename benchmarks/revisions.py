"""A study's evaluation by two revisions of the code: seconds, and whether the tables' rows agree.

    python benchmarks/revisions.py REVISION [lunar-lander] [--figures 7] [--setting VALUE ...]

Agents are trained once, by the older revision.  Then each revision evaluates a copy of the run,
twice in turn: first with an empty cache of programs, then with the full one.  What follows the
options' names above are settings of the study, as ``muscope study`` takes them.  On x86-64,
``XLA_FLAGS=--xla_cpu_max_isa=AVX`` keeps XLA from rounding a product and a sum as one, so that
programs that are fused otherwise still agree.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa

from muscope.experiments import registry
from muscope.storage import tables

ROOT = Path(__file__).parents[1]
OF_EVALUATION = ("--evaluate.", *(f"--{name}." for name in registry.everything()))


def checked_out(revision: str, at: Path) -> Path:
    """The sources of a revision."""
    at.mkdir()
    archive = subprocess.run(
        ["git", "archive", revision, "src"], cwd=ROOT, check=True, capture_output=True
    )
    subprocess.run(["tar", "-x", "-C", str(at)], input=archive.stdout, check=True)
    return at / "src"


def run(source: Path, cache: Path, *command: str) -> float:
    """Seconds of one command of a revision's, from its start to its end."""
    env = os.environ | {
        "PYTHONPATH": str(source),
        "MUSCOPE_CACHE": str(cache),
        "XDG_CACHE_HOME": str(cache),
    }
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-m", "muscope", *command], env=env, check=True)
    return time.perf_counter() - begin


def agreement(one: pa.Table, other: pa.Table) -> str:
    """How many rows of two tables are equal, but for what says how they were made."""
    columns = [name for name in one.column_names if name in other.column_names and name != "config"]
    rows = [table.select(columns).to_pylist() for table in (one, other)]
    same = sum(repr(a) == repr(b) for a, b in zip(*rows, strict=False))
    return f"{same} of {max(len(part) for part in rows)} rows equal"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("revision")
    parser.add_argument("environment", nargs="?", default="lunar-lander")
    parser.add_argument("--figures", default="7")
    options, settings = parser.parse_known_args()
    train = settings_of(settings, training=True)
    evaluate = settings_of(settings, training=False)
    with tempfile.TemporaryDirectory() as folder:
        room = Path(folder)
        sources = {
            options.revision: checked_out(options.revision, room / "before"),
            "this": ROOT / "src",
        }
        trained = room / "run"
        run(
            sources[options.revision],
            room / "cache-training",
            *("train", options.environment, *train, "--out", str(trained)),
        )
        seconds: dict[str, list[float]] = {name: [] for name in sources}
        for count in range(2):
            for number, (name, source) in enumerate(sources.items()):
                copy = room / f"{number}-{count}"
                shutil.copytree(trained, copy)
                command = ("evaluate", str(copy), "--figures", options.figures, *evaluate)
                seconds[name].append(run(source, room / f"cache-{number}", *command))
        before, now = seconds.values()
        print(f"evaluate --figures {options.figures}, from start to end of the process")
        for count, cache in enumerate(("empty", "full")):
            ratio = before[count] / now[count]
            print(f"{cache} cache: {before[count]:.0f} s, {now[count]:.0f} s, {ratio:.2f} times")
        for name in sorted(p.name for p in (room / "1-1" / "tables").glob("*.parquet")):
            old, new = (room / folder / "tables" / name for folder in ("0-1", "1-1"))
            told = "new" if not old.exists() else agreement(tables.read(old), tables.read(new))
            print(f"{name}: {told}")


def settings_of(settings: list[str], *, training: bool) -> list[str]:
    """Those of training, or the others, each with its values."""
    kept: list[str] = []
    wanted = False
    for word in settings:
        if word.startswith("--"):
            wanted = word.startswith(OF_EVALUATION) != training
        if wanted:
            kept.append(word)
    return kept


if __name__ == "__main__":
    main()
