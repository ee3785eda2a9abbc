"""Everything that is to be known of a GPU, as one JSON; ``gpu.sh`` installs and starts this.

    python benchmarks/gpu.py [--out gpu.json] [--quick] [--parts card,training] [--seconds 530]

Each part (``_gpu_parts.py``) runs in a process of its own, so that it has the card's memory for
itself, under a time limit of its own.  Parts are ordered by what they are worth.  What a part has
measured is in the file within seconds, so one that fails, is cut off or not reached costs no other
part's numbers; its state and the end of its errors stand beside them.  ``--quick`` takes tiny
sizes, to see on any machine that the parts work; its times mean nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

LIMITS = {
    "card": 60,
    "training": 100,
    "search": 90,
    "study": 120,
    "breakout": 100,
    "lander": 110,
    "launches": 60,
}
"""Seconds that a part may take at most, in the order of worth."""
QUICK = 300
"""The same with ``--quick``: compilation on a busy CPU is all there is to it."""
GRACE = 5  # s that are kept for the end
ERRORS = 2_000  # characters of a part's errors that are kept


def main() -> None:
    """Run the parts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("gpu.json"))
    parser.add_argument("--quick", action="store_true", help="tiny sizes, on any machine")
    parser.add_argument("--parts", default=",".join(LIMITS), help="which, with commas between")
    parser.add_argument("--seconds", type=float, help="for all of it; 530, or 1800 with --quick")
    parser.add_argument("--began", type=float, default=time.time(), help=argparse.SUPPRESS)
    options = parser.parse_args()
    names = options.parts.split(",")
    strange = sorted(set(names) - set(LIMITS))
    if strange:
        parser.error(f"there is no part '{strange[0]}'; there are {', '.join(LIMITS)}.")
    ends = options.began + (options.seconds or (1800 if options.quick else 530)) - GRACE
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    parts: dict[str, dict[str, Any]] = {name: {"state": "not reached"} for name in names}
    report = {
        "began": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(options.began)),
        "quick": options.quick,
        "installed_after": round(time.time() - options.began, 1),
        "parts": parts,
    }
    for name in names:
        limit = min(QUICK if options.quick else LIMITS[name], ends - time.time())
        if limit <= GRACE:
            break
        for part in run(name, limit, options.quick, _peaks(parts)):
            parts[name] = part
            _write(options.out, report)
        print(f"{name}: {parts[name]['state']} in {parts[name]['seconds']} s", file=sys.stderr)
    _write(options.out, report)
    print(json.dumps(report, indent=1))
    if any(part["state"] == "failed" for part in parts.values()):
        sys.exit(1)


def run(name: str, limit: float, quick: bool, peaks: dict[str, float]) -> Iterator[dict[str, Any]]:
    """What a part has come to, every two seconds and when it ends.

    Args:
        name: of the part.
        limit: seconds that it may take.
        quick: with tiny sizes.
        peaks: the card's limits, as far as they were measured.

    """
    with tempfile.TemporaryDirectory() as folder:
        rows, errors = Path(folder, "rows"), Path(folder, "errors")
        rows.touch()
        here = Path(__file__).with_name("_gpu_parts.py")
        command = [sys.executable, str(here), name, str(rows), json.dumps(peaks)]
        command += ["--quick"] * quick
        began = time.monotonic()
        with errors.open("wb") as stream:
            # A group of its own: an emulator's worker processes must end with it.
            process = subprocess.Popen(
                command, stdout=stream, stderr=stream, start_new_session=True
            )

        def so_far(state: str) -> dict[str, Any]:
            seconds = round(time.monotonic() - began, 1)
            whole_lines = rows.read_text().rpartition("\n")[0].splitlines()
            found = [json.loads(line) for line in whole_lines]
            part = {"state": state, "seconds": seconds, "limit": round(limit, 1), "rows": found}
            if state == "failed":
                part["errors"] = errors.read_text(errors="replace")[-ERRORS:]
            return part

        try:
            while process.poll() is None and time.monotonic() - began < limit:
                yield so_far("running")
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(min(2.0, max(limit - (time.monotonic() - began), 0.01)))
            ended = process.poll()
            yield so_far("out of time" if ended is None else "failed" if ended else "done")
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _peaks(parts: dict[str, dict[str, Any]]) -> dict[str, float]:
    """The card's limits among what was measured of it."""
    rows = parts.get("card", {}).get("rows", [])
    return {row["of"]: row["peak"] for row in rows if "peak" in row}


def _write(path: Path, report: dict[str, Any]) -> None:
    """Replace the file as a whole, so that it can be read at any moment."""
    beside = path.with_name(f".{path.name}.part")
    beside.write_text(json.dumps(report, indent=1) + "\n")
    beside.replace(path)


if __name__ == "__main__":
    main()
