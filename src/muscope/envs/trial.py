"""Whether a host model is what it says: its future depends on the snapshot and actions alone.

A model with randomness of its own, or one whose snapshot leaves something out, would be accepted
and remembered as the truth.  So every host environment's model is tried before it is used.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import numpy as np

from muscope.envs.workers import (
    HostModel,
    HostStep,
    Maker,
    PlayingModel,
    Playout,
    Work,
    perform,
)
from muscope.errors import ConfigError, MuscopeError

GAMES = 4  # random games that are tried
LENGTH = 12  # steps of each


class Trial(NamedTuple):
    """What was seen of a model that passed."""

    first: HostStep
    """An initial state."""
    longest: int
    """Bytes of the longest snapshot."""
    playing: bool
    """It is a :class:`muscope.envs.workers.PlayingModel`."""


@functools.lru_cache(maxsize=2)
def models(maker: Maker) -> tuple[HostModel, HostModel]:
    """Two models in this process, to be tried against each other; the second has done nothing."""
    return maker(), maker()


@functools.cache
def check_restores(maker: Maker, name: str, num_actions: int, starts: int) -> Trial:
    """Refuse a model whose steps depend on more than the snapshot.

    Random actions are followed from some initial states; every step is taken again after another
    state was visited, and by a second model.

    Args:
        maker: makes the model.
        name: of the environment, for the message.
        num_actions: of the environment.
        starts: initial states.

    Raises:
        ConfigError: a step or a reset had another result, or failed; the message says what
            differed and where.

    """
    try:
        return _tried(maker, name, num_actions, starts)
    except MuscopeError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise ConfigError(f"the model of '{name}' failed when it was tried: {reason}") from error


def _tried(maker: Maker, name: str, num_actions: int, starts: int) -> Trial:
    model, second = models(maker)
    playing = isinstance(model, PlayingModel)
    rng = np.random.default_rng(0)
    seen: list[HostStep] = []
    for game in range(GAMES):
        start = int(rng.integers(starts)) if game else 0
        work = Work(None, start)
        steps, actions = [], []
        for t in range(LENGTH + 1):
            elsewhere = seen[int(rng.integers(len(seen)))].snapshot if t % 2 else None
            other = Work(elsewhere, int(rng.integers(num_actions if t % 2 else starts)))
            step = perform(model, work)
            perform(model, other)
            for again in (perform(model, work), perform(second, work)):
                if different := differences(step, again):
                    raise ConfigError(_refusal(name, start, t, different))
            steps.append(step)
            if step.over:
                break
            seen.append(step)
            actions.append(int(rng.integers(num_actions)))
            work = Work(step.snapshot, actions[-1])
        if playing:
            _check_play(model, name, steps, actions)
    return Trial(seen[0], max(len(step.snapshot) for step in seen), playing)


def _check_play(model: Any, name: str, steps: list[HostStep], actions: list[int]) -> None:
    """Refuse a model whose own ``play`` gives other rewards than its steps."""
    if steps[0].over:
        return
    wanted = [step.reward for step in steps[1:]]
    given = perform(model, Playout(steps[0].snapshot, actions[: len(wanted)], training=False))
    paid = [played.reward for played in given]
    if paid != wanted:
        raise ConfigError(
            f"the model of '{name}' has a play that gives the rewards {paid} where its steps give "
            f"{wanted}; mend it or leave it out."
        )


def differences(a: HostStep, b: HostStep) -> list[str]:
    """In what two results differ."""
    return [
        *["observation"] * (not same_bits(a.view, b.view)),
        *["reward"] * (a.reward != b.reward),
        *["end"] * (bool(a.over) != bool(b.over)),
        *["snapshot"] * (a.snapshot != b.snapshot),
    ]


def same_bits(a: Any, b: Any) -> bool:
    """Whether two views are the same arrays."""

    def bits(view: Any) -> list[Any]:
        arrays = [np.asarray(leaf) for leaf in jax.tree.leaves(view)]
        return [(x.shape, x.dtype, x.tobytes()) for x in arrays]

    return structure(a) == structure(b) and bits(a) == bits(b)


def structure(tree: Any) -> Any:
    """What two pytrees must share; JAX's own has no type that can be compared."""
    return jax.tree.structure(tree)


def _refusal(name: str, start: int, t: int, different: list[str]) -> str:
    where = f"step {t} from" if t else "the reset to"
    return (
        f"'{name}' cannot serve as the true model: {where} start {start} gave another "
        f"{' and '.join(different)} when it was repeated; it is random, or its snapshot leaves "
        "something out."
    )
