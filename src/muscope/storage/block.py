"""A block of a run: agents that are trained together, in one program, with one state.

The first block of a run lies in the run's own directory, further ones beside it:

blocks/agents-0004-0007/
    checkpoints/  state.safetensors  diverged.safetensors  metrics.jsonl
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from muscope.storage import checkpoint
from muscope.storage.folder import Folder

BLOCKS = "blocks"


class Trained(Folder):
    """Paths of what training writes into one directory."""

    @property
    def state_path(self) -> Path:
        return self.path / "state.safetensors"

    @property
    def diverged_path(self) -> Path:
        return self.path / "diverged.safetensors"

    def checkpoint_path(self, step: int) -> Path:
        return self.path / "checkpoints" / f"step-{step:08d}.safetensors"

    def unfinished(self, what: str) -> list[Path]:
        names = (self.state_path.name, self.diverged_path.name, self.metrics_path.name)
        own = (path for name in names for path in self.path.glob(f".{name}.*.tmp"))
        return [*own, *self.path.glob("checkpoints/.*.tmp")]


class Block(Trained):
    """One block's directory.

    Attributes:
        agents: their numbers in the population.

    """

    def __init__(self, path: Path, agents: range):
        super().__init__(path)
        self.agents = agents

    def steps(self) -> tuple[int, ...]:
        """Training steps that have a checkpoint, sorted."""
        names = (
            re.fullmatch(r"step-(\d+)", p.stem) for p in self.path.glob("checkpoints/*.safetensors")
        )
        return tuple(sorted(int(match[1]) for match in names if match))

    def missing_steps(self, schedule: Sequence[int]) -> tuple[int, ...]:
        """Steps of a schedule that have no checkpoint yet."""
        return tuple(step for step in schedule if step not in self.steps())

    @contextlib.contextmanager
    def training(self) -> Iterator[None]:
        """Hold the block for training.

        Raises:
            RunError: another process holds it.

        """
        self.path.mkdir(parents=True, exist_ok=True)
        with self.lock("training"):
            yield


def blocks(path: Path, agents: int, size: int) -> tuple[Block, ...]:
    """The blocks of a run of ``agents`` agents: those that are there, and those to come.

    Args:
        path: the run's directory.
        agents: P.
        size: agents of the blocks to come; the last may have fewer.

    Raises:
        CheckpointError: what is there cannot be read.

    """
    there = sorted(_there(path), key=lambda block: block.agents.start)
    found: list[Block] = []
    ends = [block.agents.start for block in there] + [agents]
    first = 0
    for block, end in zip([*there, None], ends, strict=True):
        for start in range(first, end, size):
            planned = range(start, min(start + size, end))
            found.append(Block(block_path(path, planned), planned))
        if block is not None:
            found.append(block)
            first = block.agents.stop
    return tuple(found)


def block_path(path: Path, agents: range) -> Path:
    """Where a block of a run lies."""
    if agents.start == 0:
        return path
    return path / BLOCKS / f"agents-{agents.start:04d}-{agents.stop - 1:04d}"


def _there(path: Path) -> Iterator[Block]:
    """Blocks that have been begun."""
    first = _begun_in(path)
    if first is not None:
        yield Block(path, first)
    for inner in path.glob(f"{BLOCKS}/agents-*"):
        match = re.fullmatch(r"agents-(\d+)-(\d+)", inner.name)
        if match:
            yield Block(inner, range(int(match[1]), int(match[2]) + 1))


def _begun_in(path: Path) -> range | None:
    """The agents of the block in the run's own directory, if it has been begun."""
    state = path / "state.safetensors"
    files = [
        *[
            (p, checkpoint.AGENTS_FORMAT)
            for p in sorted(path.glob("checkpoints/step-*.safetensors"))
        ],
        *([(state, checkpoint.STATE_FORMAT)] if state.exists() else []),
    ]
    if not files:
        return None
    header = checkpoint.read_header(*files[0])
    # Before there were blocks, the config told.
    first, count = header.get("agents") or (0, header["config"]["train"]["agents"])
    return range(first, first + count)
