"""Any Gymnasium environment whose state can be copied, by its id: ``gymnasium:Acrobot-v1``.

It runs on the host, in worker processes, and a search steps copies of it.  Four things are asked
of it, and an environment that lacks one is refused in one line before any work: discrete actions;
observations that are one array or one discrete number; a state that can be pickled; steps that
are not random.  The last two are tried on random episodes.  What can be copied is the environment
itself, without the wrappers that ``gymnasium.make`` adds; the time limit is applied outside the
dynamics, as everywhere.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from muscope.config.base import Count, Settings, Whole
from muscope.config.environment import HostConfig
from muscope.envs.base import Spec
from muscope.envs.gymnasium_model import GameMaker
from muscope.envs.host import HostEnvironment, Layout
from muscope.envs.trial import check_restores, differences, models
from muscope.errors import ConfigError

TIME_LIMIT = 1_000  # steps, where Gymnasium sets no limit
EPISODES, STEPS = 2, 60  # played beside an uninterrupted environment
ROOM = 2  # times the longest snapshot seen that one may have, and
SPARE = 1_024  # bytes more


@dataclass(frozen=True)
class GymnasiumConfig(Settings):
    """How a Gymnasium environment is made and run."""

    section = "environment.options"

    kwargs: str = "{}"
    """JSON: what gymnasium.make gets besides the id, such as {"is_slippery": false}."""
    time_limit: Whole = 0
    """Steps after which an episode is cut; 0 for Gymnasium's own limit, or 1000 if it has none."""
    starts: Count = 1_000
    """Initial states: the seeds 0 to this many are what reset draws from."""
    host: HostConfig = field(default_factory=HostConfig)

    def check(self) -> None:
        try:
            fits = isinstance(json.loads(self.kwargs), dict)
        except json.JSONDecodeError:
            fits = False
        if not fits:
            raise ConfigError(
                f"environment.options.kwargs is {self.kwargs!r}; it must be a JSON table, such as "
                '{"is_slippery": false}.'
            )


class Gymnasium(HostEnvironment):
    """One environment of Gymnasium's; see :class:`muscope.envs.base.Environment`.

    Observations are arrays flattened to float32, or one-hot if Gymnasium's are a discrete number.

    Args:
        name: its id.
        options: how it is made and run.

    Raises:
        ConfigError: it cannot serve as its own true model, or Gymnasium is missing.

    """

    Options = GymnasiumConfig

    def __init__(self, name: str, options: GymnasiumConfig | None = None):
        options = options or GymnasiumConfig()
        maker, full = GameMaker(name, options.kwargs), f"gymnasium:{name}"
        game: Any = models(maker)[0]
        trial = check_restores(maker, full, game.num_actions, options.starts)
        longest = max(trial.longest, check_copies(maker, full))
        limit = options.time_limit or game.time_limit or TIME_LIMIT
        super().__init__(
            Spec(full, game.num_actions, trial.first.view.shape, limit),
            maker,
            Layout.like(trial.first, ROOM * longest + SPARE, options.starts),
            options.host,
        )


@functools.cache
def check_copies(maker: GameMaker, name: str) -> int:
    """Refuse an environment whose copies go on otherwise than it does itself.

    Args:
        maker: makes the model.
        name: of the environment, for the message.

    Returns:
        Bytes of the longest snapshot.

    Raises:
        ConfigError: a copy's step had another result.

    """
    itself, copied = maker(), maker()
    rng, longest = np.random.default_rng(0), 0
    for start in range(EPISODES):
        now = itself.reset(start)
        for t in range(STEPS):
            action = int(rng.integers(itself.num_actions))
            copy, now = copied.step(now.snapshot, action), itself.go_on(action)
            longest = max(longest, len(now.snapshot))
            # Bytes of equal states may differ between the two: pickle writes what is shared.
            if different := [d for d in differences(copy, now) if d != "snapshot"]:
                raise ConfigError(
                    f"'{name}' cannot be copied, so it cannot serve as the true model: step "
                    f"{t + 1} from start {start} gave another {' and '.join(different)} in a copy."
                )
            if now.over:
                break
    return longest
