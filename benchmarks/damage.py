"""Random single-bit flips over a run's files: each must be harmless, or noticed.

    python benchmarks/damage.py [--flips 2000] [--seed 0]

Makes a small run and an examination, flips one bit of one file, reads as users' commands do, and
puts the bit back.  The kinds of file have their turns; the file and the bit are drawn.  A flip is

- harmless if every reading gives the same data,
- noticed if one raises a ``MuscopeError``, or counts a line of the log as damaged,
- silent if a reading gives other data, and
- a crash if anything else is raised.

``figures/`` and ``report.html`` are left out: nothing reads them, and each report makes them anew.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pyarrow as pa

import muscope
from muscope.config import training_dict
from muscope.errors import MuscopeError
from muscope.examination import EXAMINATION
from muscope.stages import StudyRun
from muscope.storage import checkpoint, gif, json_file, metrics, tables
from muscope.training.population import Population

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from tiny import tiny_config  # type: ignore[import-not-found]

OUTCOMES = ("harmless", "noticed", "silent", "crash")
SMALL = tiny_config()
Reading = Callable[[], Any]
"""What a user's command reads, in a form that is equal for equal data."""


class Noticed(Exception):
    """A reading that goes on, but says what it left out."""


class Files:
    """A run's and an examination's files and who reads them.

    Args:
        run: finished, with a film.
        examined: the folder of an examination.

    """

    def __init__(self, run: StudyRun, examined: Path):
        self.run, self.examined = run, examined
        population = Population(run.config)
        self._state = jax.eval_shape(population.initial)
        checkpoint.write(
            run.state_path,
            population.initial(),
            kind=checkpoint.STATE_FORMAT,
            step=24,
            config=training_dict(run.config),
        )
        self.kinds: dict[str, list[Path]] = {
            "config.json": [run.path / "config.json"],
            "examination.json": [examined / EXAMINATION],
            "checkpoints": sorted(run.path.glob("checkpoints/*")),
            "state.safetensors": [run.state_path],
            "metrics.jsonl": [run.metrics_path],
            "cells": sorted(run.path.glob("cells/*/*")),
            "tables": sorted(run.path.glob("tables/*")),
            "film.gif": [run.film_path],
        }

    def readings(self, kind: str, path: Path) -> Iterator[Reading]:
        """What reads one file, quick ones first."""
        run = self.run
        if kind == "config.json":
            yield lambda: muscope.open_run(run.path).config
        elif kind == "examination.json":
            names = ("subject", "agents", "evaluate", "experiments")  # All that anybody asks for.
            yield lambda: [json_file.read(path)[name] for name in names]
        elif kind == "checkpoints":
            step = int(path.stem.removeprefix("step-"))
            yield lambda: (_bytes(run.subject.load(step)), run.subject.digest(step))
        elif kind == "state.safetensors":
            yield lambda: _bytes(checkpoint.read(path, self._state, checkpoint.STATE_FORMAT)[0])
        elif kind == "metrics.jsonl":
            yield lambda: _log(path)
        elif kind in ("cells", "tables"):
            yield lambda: rows(tables.read(path))
            yield lambda: isinstance(tables.about(path), dict)  # Whatever it says.
        elif kind == "film.gif":
            yield lambda: gif.read(path)[:-100]  # Pictures without the comment at the end.

    def judged(self) -> Any:
        """What 'muscope claims' reads: config, checkpoints' headers, all tables."""
        return rows(muscope.judge(self.run.path))


def _bytes(tree: Any) -> list[bytes]:
    leaves = jax.tree.leaves(tree)
    keys = [jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key) for leaf in leaves]
    plain = [jax.random.key_data(x) if k else x for x, k in zip(leaves, keys, strict=True)]
    return [np.asarray(leaf).tobytes() for leaf in plain]


def _log(path: Path) -> list[dict[str, Any]]:
    log = metrics.read(path)
    if log.damaged:
        raise Noticed
    return log.entries


def rows(table: pa.Table) -> bytes:
    """All of a table, by other means than its digest; without what Parquet adds to fields."""

    def own(field: pa.Field) -> pa.Field:
        about = {k: v for k, v in (field.metadata or {}).items() if not k.startswith(b"PARQUET")}
        return field.with_metadata(about)

    schema = pa.schema([own(field) for field in table.schema], table.schema.metadata)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        writer.write_table(table.combine_chunks().cast(schema))
    return sink.getvalue().to_pybytes()


def make(folder: Path, experiments: Sequence[str] | None = None) -> Files:
    """A small run on Cart Pole, and an examination of it."""
    run = muscope.study(SMALL, folder / "run", experiments)
    examined = muscope.examine(run.subject, folder / "examined", ["figure4"])
    return Files(run, examined.path)


def outcome(readings: Sequence[tuple[Reading, Any]]) -> str:
    """What reading a damaged file comes to; ``readings`` with what they gave before."""
    noticed = silent = False
    for reading, before in readings:
        try:
            silent |= reading() != before
        except (MuscopeError, Noticed):
            noticed = True
        except Exception:
            return "crash"
    return "silent" if silent else "noticed" if noticed else "harmless"


def flip(files: Files, count: int, seed: int, judge_every: int = 1) -> dict[str, Counter[str]]:
    """Outcomes of single-bit flips by kind of file.

    Args:
        files: what to damage; it is whole again afterwards.
        count: of flips.
        seed: of the draws.
        judge_every: every how many flips of each kind the claims are judged too.

    """
    draw = random.Random(seed)
    counts: dict[str, Counter[str]] = {kind: Counter() for kind in files.kinds}
    judged = files.judged()
    for number in range(count):
        kind = list(counts)[number % len(counts)]
        path = draw.choice(files.kinds[kind])
        readings = [(reading, reading()) for reading in files.readings(kind, path)]
        in_claims = kind in ("config.json", "checkpoints", "tables")
        if in_claims and number // len(counts) % judge_every == 0:
            readings.append((files.judged, judged))
        whole = path.read_bytes()
        bit = draw.randrange(8 * len(whole))
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        try:
            found = outcome(readings)
        finally:
            path.write_bytes(whole)
        counts[kind][found] += 1
        if found in ("silent", "crash"):
            print(f"{found.upper()}: {path}, bit {bit}", flush=True)
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--flips", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        files = make(Path(folder))
        begin = time.monotonic()
        counts = flip(files, options.flips, options.seed)
        print(f"{options.flips} flips in {time.monotonic() - begin:.0f} s")
    print(f"| file | flips | {' | '.join(OUTCOMES)} |")
    print("|---" * (len(OUTCOMES) + 2) + "|")
    total: Counter[str] = sum(counts.values(), Counter())
    for kind, found in [*((f"`{kind}`", c) for kind, c in counts.items()), ("all", total)]:
        row = [found.total(), *(found[name] for name in OUTCOMES)]
        print(f"| {kind} | {' | '.join(map(str, row))} |")
    if total["silent"] or total["crash"]:
        raise SystemExit("some flips were not noticed")


if __name__ == "__main__":
    main()
