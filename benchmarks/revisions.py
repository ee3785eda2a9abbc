"""A study's stages by two revisions of the code: their speed, and whether they give the same.

    python benchmarks/revisions.py REVISION [lunar-lander] [--figures 7] [--setting VALUE ...]
    python benchmarks/revisions.py REVISION [lunar-lander] --training [--setting VALUE ...]

Agents are trained once, by the older revision.  Then each revision evaluates a copy of the run,
twice in turn: first with an empty cache of programs, then with the full one.  With ``--training``
each revision trains instead, twice in turn, and nothing is evaluated; the speed is that of the
run's second half, in which nothing is compiled.  What follows the options' names above are
settings of the study, as ``muscope study`` takes them.  On x86-64,
``XLA_FLAGS=--xla_cpu_max_isa=AVX`` keeps XLA from rounding a product and a sum as one, so that
programs that are fused otherwise still agree.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa
from safetensors.numpy import load_file

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


def speed(trained: Path) -> float:
    """Training steps per second over the second half of a run, all agents at once."""
    lines = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    last = lines[-1]
    half = next(line for line in lines if 2 * line["step"] >= last["step"])
    if half is last:
        raise SystemExit("the second half is not one call of the program: raise --train.steps.")
    return (last["step"] - half["step"]) / (last["seconds"] - half["seconds"])


def same_agents(one: Path, other: Path) -> str:
    """How many checkpoints of two runs have the same parameters, to the bit."""
    name = "*.safetensors"
    paths = sorted(path.relative_to(one) for path in (one / "checkpoints").glob(name))
    same = 0
    for path in paths:
        a, b = (load_file(folder / path) for folder in (one, other))
        same += a.keys() == b.keys() and all(a[key].tobytes() == b[key].tobytes() for key in a)
    return f"{same} of {len(paths)} checkpoints equal to the bit"


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
    parser.add_argument("--training", action="store_true")
    options, settings = parser.parse_known_args()
    train = ("train", options.environment, *settings_of(settings, training=True), "--out")
    evaluate = ("--figures", options.figures, *settings_of(settings, training=False))
    with tempfile.TemporaryDirectory() as folder:
        room = Path(folder)
        sources = (checked_out(options.revision, room / "before"), ROOT / "src")
        if options.training:
            both_train(room, sources, train)
        else:
            both_evaluate(room, sources, train, evaluate)


def both_train(room: Path, sources: tuple[Path, Path], train: tuple[str, ...]) -> None:
    """Train from the beginning, twice in turn, and compare."""
    print("training steps per second, of all agents together; from start to end of the process")
    for count in range(2):
        speeds, seconds = [], []
        for number, source in enumerate(sources):
            out = room / f"{number}-{count}"
            seconds.append(run(source, room / f"cache-{number}", *train, str(out)))
            speeds.append(speed(out))
        times = speeds[1] / speeds[0]
        print(f"{speeds[0]:.1f} /s, {speeds[1]:.1f} /s, {times:.2f} times", flush=True)
        print(f"    {seconds[0]:.0f} s, {seconds[1]:.0f} s")
    print(same_agents(room / "0-1", room / "1-1"))


def both_evaluate(
    room: Path, sources: tuple[Path, Path], train: tuple[str, ...], evaluate: tuple[str, ...]
) -> None:
    """Evaluate copies of one run, twice in turn, and compare."""
    trained = room / "run"
    run(sources[0], room / "cache-training", *train, str(trained))
    seconds: tuple[list[float], list[float]] = ([], [])
    for count in range(2):
        for number, source in enumerate(sources):
            copy = room / f"{number}-{count}"
            shutil.copytree(trained, copy)
            command = ("evaluate", str(copy), *evaluate)
            seconds[number].append(run(source, room / f"cache-{number}", *command))
    print(f"evaluate {' '.join(evaluate[:2])}, from start to end of the process")
    for cache, before, now in zip(("empty", "full"), *seconds, strict=True):
        print(f"{cache} cache: {before:.0f} s, {now:.0f} s, {before / now:.2f} times")
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
