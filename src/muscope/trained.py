"""One agent in hand: act, search, unroll its model."""

from __future__ import annotations

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key
from numpy.typing import ArrayLike

from muscope import display
from muscope.agent import Agent, Prediction
from muscope.config import SearchConfig
from muscope.errors import ConfigError
from muscope.search import SearchResult, learned_parts, sample_action, search
from muscope.subjects import Subject


class TrainedAgent:
    """Agent ``index`` of a subject as it stood at training step ``step``.

    Attributes:
        network: h, g and f with this agent's parameters.
        environment: the true environment.
        temperature: T of Equation 1 at this step.

    """

    def __init__(self, subject: Subject, index: int, step: int):
        self.subject = subject
        self.index = index
        self.step = step
        self.network: Agent = jax.tree.map(lambda x: jnp.asarray(x)[index], subject.load(step))
        self.environment = subject.environment
        self.temperature = subject.temperature(step)
        self._calls = 0

    def _repr_html_(self) -> str:
        spec, search = self.environment.spec, self.subject.search
        rows: list[list[object]] = [
            ["environment", spec.name],
            ["observation", spec.observation_shape],
            ["actions", spec.num_actions],
            ["discount", self.subject.discount],
            ["simulations", search.simulations],
            ["temperature", float(self.temperature)],
        ]
        return display.table(f"agent {self.index} at step {self.step:,}", [], rows)

    def search(self, observation: ArrayLike, seed: int | None = None) -> SearchResult:
        """MCTS from one observation, without exploration noise.

        Args:
            observation: of the environment's shape.
            seed: breaks ties; a new one at every call by default.

        Returns:
            Visits [A], mean returns [A] and the value of the root.

        """
        return self._search(observation, self._key(seed))

    def act(self, observation: ArrayLike, seed: int | None = None) -> int:
        """An action sampled from Equation 1 at this checkpoint's temperature.

        Args:
            observation: of the environment's shape.
            seed: repeats a draw; a new one at every call by default.

        """
        search_key, action_key = jax.random.split(self._key(seed))
        visits = self._search(observation, search_key).visits
        return int(sample_action(action_key, visits, self.temperature))

    def _search(self, observation: ArrayLike, key: Key[Array, ""]) -> SearchResult:
        subject = self.subject
        result = _search(
            self.network, self._observation(observation), key, subject.search, subject.discount
        )
        return jax.tree.map(lambda x: x[0], result)

    def _key(self, seed: int | None) -> Key[Array, ""]:
        if seed is not None:
            return jax.random.key(seed)
        self._calls += 1
        return jax.random.fold_in(jax.random.key(self.index), self._calls)

    def predict(self, observation: ArrayLike) -> Prediction:
        """The policy prior's logits [A] and the value at one observation."""
        return _predict(self.network, self._observation(observation))

    def unroll(
        self, observation: ArrayLike, actions: Sequence[int]
    ) -> tuple[Float[Array, "K"], Prediction]:
        """The learned model along ``actions``: rewards u_t^0.. and f(z_t^1)..

        Raises:
            ConfigError: an action that the environment does not have.

        """
        count = self.environment.spec.num_actions
        if any(not 0 <= a < count for a in actions):
            raise ConfigError(f"actions must lie in 0..{count - 1}, not {list(actions)}.")
        sequence = jnp.asarray(actions, jnp.int32)
        return _unroll(self.network, self._observation(observation), sequence)

    def _observation(self, observation: ArrayLike) -> Float[Array, "..."]:
        observation = jnp.asarray(observation, jnp.float32)
        wanted = self.environment.spec.observation_shape
        if observation.shape != wanted:
            raise ConfigError(
                f"the observation has shape {observation.shape}, "
                f"{self.environment.spec.name} has {wanted}."
            )
        return observation


@eqx.filter_jit
def _search(
    network: Agent, observation: Array, key: Key[Array, ""], config: SearchConfig, discount: float
) -> SearchResult:
    roots = jax.tree.map(lambda z: z[None], network.represent(observation))
    return search(learned_parts(network), roots, key, config, discount)


@eqx.filter_jit
def _predict(network: Agent, observation: Array) -> Prediction:
    return network.predict(network.represent(observation))


@eqx.filter_jit
def _unroll(
    network: Agent, observation: Array, actions: Int[Array, "K"]
) -> tuple[Float[Array, "K"], Prediction]:
    def advance(z, action):
        following, reward = network.step(z, action)
        return following, (reward, network.predict(following))

    return jax.lax.scan(advance, network.represent(observation), actions)[1]
