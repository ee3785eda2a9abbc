"""What other packages trained their published agents on: settings of their own games, as data.

Beside every value stands where it was read: the file in the package's repository, at
:attr:`Game.commit`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from muscope.foreign.base import ForeignAgent


class Sourced(NamedTuple):
    """A setting, and the file that says so."""

    value: Any
    source: str


class Game(NamedTuple):
    """A package's settings for one of its games."""

    package: str
    """A name in :data:`muscope.foreign.READERS`."""
    commit: str
    """Of the package's repository."""
    inputs: int
    """Numbers in an observation, the history included; with ``num_actions`` they tell the game
    among the package's own."""
    num_actions: int
    environment: Sourced
    """Its name here."""
    options: Mapping[str, Sourced]
    """Options of that environment."""
    discount: Sourced
    """gamma."""
    simulations: Sourced
    """Of a search, in training and in evaluation."""
    unroll: Sourced
    """K, the steps that the model is unrolled in training."""
    temperature: Sourced
    """Of Equation 1 in training, when a published agent was saved; evaluation is greedy."""
    reward_scale: Sourced
    """The agent was trained on rewards divided by it."""
    observations: Sourced
    """Observations in the history that the agent sees; 1 is no history."""

    def plain(self, name: str) -> Any:
        """A setting without its source; options as a dictionary."""
        setting = getattr(self, name)
        if isinstance(setting, Mapping):
            return {key: option.value for key, option in setting.items()}
        return setting.value


_GENERAL = "0825bd544fc172a2e2dcc96d43711123222c4a2f"
_MICHAELNNY = "dba15f1278308a887f8a097a6b0211ca4ff65569"
_LIGHTZERO = "9f717c80c86d5c69b39a56d8ade18e684ce6311a"

_CART = "games/cartpole.py"
_LANDER = "games/lunarlander.py"
_CLASSIC = "muzero/config.py: make_classic_config"
_SCHEDULE = "muzero/config.py: classic_visit_softmax_temperature_fn"
_EVALUATED = "muzero/classic/eval_agent.py"
_ZOO_CART = "zoo/classic_control/cartpole/config/cartpole_muzero_config.py"
_ZOO_LANDER = "zoo/box2d/lunarlander/config/lunarlander_disc_muzero_config.py"
_POLICY = "lzero/policy/muzero.py: MuZeroPolicy.config"


def _michaelnny(environment: str, game: str, inputs: int, num_actions: int) -> Game:
    return Game(
        package="michaelnny",
        commit=_MICHAELNNY,
        inputs=inputs,
        num_actions=num_actions,
        environment=Sourced(environment, f"{_EVALUATED}: {game}"),
        options={},
        discount=Sourced(0.997, _CLASSIC),
        simulations=Sourced(50, _CLASSIC),
        unroll=Sourced(5, "muzero/config.py: MuZeroConfig"),
        temperature=Sourced(0.5, f"{_SCHEDULE}, at 30,000 to 60,000 steps"),
        reward_scale=Sourced(1.0, "muzero/gym_env.py: create_classic_environment"),
        observations=Sourced(4, f"{_EVALUATED}: stack_history"),
    )


def _lightzero(
    environment: str,
    options: Mapping[str, Sourced],
    config: str,
    sizes: tuple[int, int],
    simulations: int,
) -> Game:
    return Game(
        package="lightzero",
        commit=_LIGHTZERO,
        inputs=sizes[0],
        num_actions=sizes[1],
        environment=Sourced(environment, config),
        options=options,
        discount=Sourced(0.997, f"{_POLICY}: discount_factor"),
        simulations=Sourced(simulations, config),
        unroll=Sourced(5, f"{_POLICY}: num_unroll_steps"),
        temperature=Sourced(0.25, f"{_POLICY}: fixed_temperature_value"),
        reward_scale=Sourced(1.0, config),
        observations=Sourced(1, config),
    )


GAMES: tuple[Game, ...] = (
    Game(
        package="muzero-general",
        commit=_GENERAL,
        inputs=4,
        num_actions=2,
        environment=Sourced("cart-pole", f"{_CART}: CartPole-v1"),
        options={},
        discount=Sourced(0.997, _CART),
        simulations=Sourced(50, _CART),
        unroll=Sourced(10, _CART),
        temperature=Sourced(0.5, f"{_CART}: visit_softmax_temperature_fn, at step 5,169"),
        reward_scale=Sourced(1.0, f"{_CART}: Game.step"),
        observations=Sourced(1, _CART),
    ),
    Game(
        package="muzero-general",
        commit=_GENERAL,
        inputs=8,
        num_actions=4,
        environment=Sourced("lunar-lander", f"{_LANDER}: DeterministicLunarLander"),
        options={
            "terrain": Sourced("flat", f"{_LANDER}: DeterministicLunarLander.reset"),
            "time_limit": Sourced(700, f"{_LANDER}: max_moves"),
        },
        discount=Sourced(0.999, _LANDER),
        simulations=Sourced(50, _LANDER),
        unroll=Sourced(10, _LANDER),
        temperature=Sourced(0.35, f"{_LANDER}: visit_softmax_temperature_fn"),
        reward_scale=Sourced(3.0, f"{_LANDER}: Game.step"),
        observations=Sourced(1, _LANDER),
    ),
    _michaelnny("cart-pole", "CartPole-v1", 20, 2),
    _michaelnny("lunar-lander", "LunarLander-v2", 36, 4),
    _lightzero("cart-pole", {}, _ZOO_CART, (4, 2), 25),
    _lightzero("lunar-lander", {}, _ZOO_LANDER, (8, 4), 50),
)
"""All games of readable packages for which there is an environment here."""


def game_of(agent: ForeignAgent) -> Game | None:
    """The package's own game that an agent was trained on, as far as its sizes tell.

    An agent that somebody trained on another game of the same sizes is not told apart.
    """
    sizes = (agent.package, agent.inputs, agent.num_actions)
    return next((g for g in GAMES if (g.package, g.inputs, g.num_actions) == sizes), None)
