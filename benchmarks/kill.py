"""A training run killed with SIGKILL at random moments against one that is left alone.

    python benchmarks/kill.py [--kills 20] [--seed 0]

Trains one small population without interruption; trains it again, killing the process at
random moments (during start-up, compilation, training and writing alike) and starting the
same command anew each time; then compares all checkpoints byte by byte.  The saved state is
as fresh as it can be (``train.save_seconds`` 0), so that kills also hit its writing.
"""

from __future__ import annotations

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SETTINGS = [
    *("--agents", "4", "--steps", "1600", "--train.save-seconds", "0"),
    *("--train.checkpoints", "0", "400", "800", "1200"),
]


def command(out: Path) -> list[str]:
    return [sys.executable, "-m", "muscope", "train", "cart-pole", "--out", str(out), *SETTINGS]


def checkpoints(run: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted((run / "checkpoints").glob("*.safetensors"))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    moments = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        whole, killed = Path(folder) / "whole", Path(folder) / "killed"
        subprocess.run(command(whole), check=True, stdout=subprocess.DEVNULL)
        begin = time.monotonic()
        subprocess.run(command(Path(folder) / "timed"), check=True, stdout=subprocess.DEVNULL)
        seconds = time.monotonic() - begin
        print(f"uninterrupted: {seconds:.1f} s with a warm compilation cache")
        kills = 0
        while kills < options.kills:
            process = subprocess.Popen(command(killed), stdout=subprocess.DEVNULL)
            try:
                # Up to half of the whole: some kills come in start-up, some in training.
                process.wait(moments.uniform(0.0, 0.5 * seconds))
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()
                kills += 1
                state = killed / "metrics.jsonl"
                calls = len(state.read_text().splitlines()) if state.exists() else 0
                print(f"kill {kills:2d}: after {calls} calls", flush=True)
            else:
                if process.returncode != 0:
                    raise SystemExit(f"the run failed with status {process.returncode}")
                print(f"finished after {kills} kills; starting over to use up the rest")
                _same(whole, killed)
                subprocess.run(["rm", "-r", str(killed)], check=True)
        subprocess.run(command(killed), check=True, stdout=subprocess.DEVNULL)
        _same(whole, killed)
        print(f"{kills} kills: every checkpoint equals the uninterrupted run's, byte for byte")


def _same(whole: Path, killed: Path) -> None:
    a, b = checkpoints(whole), checkpoints(killed)
    if a != b:
        odd = [name for name in a if a[name] != b.get(name)]
        raise SystemExit(f"DIFFERENT: {odd}")


if __name__ == "__main__":
    main()
