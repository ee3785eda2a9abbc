"""One agent's training: act, reanalyse, learn.  Callers ``jax.vmap`` over a population."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Key

from muscope import envs
from muscope.agent import networks, standardise
from muscope.agent.check import check_network
from muscope.agent.networks import MuZero
from muscope.config import Config
from muscope.envs import State, episode
from muscope.envs.episode import Episode
from muscope.learning import loss, optimiser, replay, targets
from muscope.learning.loss import LossTerms
from muscope.learning.replay import Replay, Rows
from muscope.learning.targets import Targets
from muscope.learning.terms import registry
from muscope.search import learned_parts, mix_root_noise, sample_action, search, temperature_at
from muscope.training.work import warmup_rounds


class Trained(NamedTuple):
    """What gradients change."""

    agent: MuZero
    terms: dict[str, Any]
    """Parameters of auxiliary losses' own, by name; checkpoints leave them out."""

    @property
    def all(self) -> Any:
        """As the optimiser knows it: without auxiliary losses the agent alone, as before there
        were any, so that saved states of then go on.
        """
        return self if self.terms else self.agent


class AgentState(NamedTuple):
    """Everything one agent's future depends on, besides the round's number."""

    agent: MuZero
    """The parameters that are trained."""
    average: MuZero
    """Their moving average: it acts, reanalyses and is what checkpoints keep."""
    optimiser: optax.OptState
    replay: Replay
    episodes: Episode
    """[lanes]"""
    key: Key[Array, ""]
    """The agent's own key; every round folds its number into it."""
    terms: dict[str, Any]
    """Parameters of auxiliary losses' own, by name."""


class _Learned(NamedTuple):
    """What updates change.  Of the replay only the weights: its rows must not be copied."""

    trained: Trained
    average: MuZero
    optimiser: optax.OptState
    weight: Float[Array, "T lanes"]


class RoundMetrics(NamedTuple):
    """Sums over one round, for logs."""

    updates: Float[Array, ""]
    policy_loss: Float[Array, ""]
    value_loss: Float[Array, ""]
    reward_loss: Float[Array, ""]
    gradient_norm: Float[Array, ""]
    episodes: Float[Array, ""]
    """Training games that finished."""
    score: Float[Array, ""]
    """Sum of their undiscounted returns."""
    terms: Mapping[str, Float[Array, ""]]
    """Auxiliary losses by name, before their weights."""


class _Logs(NamedTuple):
    """Of one update."""

    policy: Float[Array, ""]
    value: Float[Array, ""]
    reward: Float[Array, ""]
    norm: Float[Array, ""]
    """Of the gradient."""
    terms: dict[str, Float[Array, ""]]


def check(config: Config) -> None:
    """Trace the making of an agent, so that impossible settings are found before any work.

    Raises:
        ConfigError: an unknown environment, network or auxiliary loss, one of these that breaks
            its contract, or sizes that do not fit.

    """
    program = AgentProgram(config)
    spec = program.environment.spec
    network = jax.eval_shape(lambda k: networks.build(config.network, spec, k), jax.random.key(0))
    check_network(network, spec, config.network.kind)
    state = jax.eval_shape(program.initial, jax.random.key(0))
    if program.terms:
        jax.eval_shape(program.losses_of, state, jax.ShapeDtypeStruct((1,), jnp.int32))


class AgentProgram:
    """The pure functions of one agent's training, bound to a config.

    Attributes:
        warmup_rounds: rounds that only act, before the first update.
        stack: frames in an observation, of which the replay keeps one per row.
        terms: auxiliary losses that have a weight.

    """

    def __init__(self, config: Config):
        self.config = config
        self.environment = envs.training_view(envs.make(config.environment))
        environment = self.environment
        self._frames = environment if isinstance(environment, envs.Stacked) else None
        self.stack = self._frames.stack if self._frames else 1
        self.optimiser = optimiser.make(config.optimiser, config.train.steps)
        self.terms = registry.active(config)
        self.warmup_rounds = warmup_rounds(config)

    def initial(self, key: Key[Array, ""]) -> AgentState:
        """An untrained agent with an empty replay; ``key`` becomes the agent's own."""
        config, spec = self.config, self.environment.spec
        network_key, reset_key, own = jax.random.split(key, 3)
        agent = networks.build(config.network, spec, network_key)
        if standardise.present(agent):
            seen = episode.observed_in_random_play(
                self.environment, jax.random.fold_in(network_key, 1), config.train.lanes
            )
            agent = standardise.measured(agent, *seen)
        # Each has its own key by its name, so that the others do not matter.
        root = jax.random.fold_in(network_key, 2)
        own_parameters = {
            term.name: term.initial(
                agent, spec, jax.random.fold_in(root, zlib.crc32(term.name.encode()))
            )
            for term in self.terms
        }
        lanes = config.train.lanes
        starts = jax.vmap(lambda k: episode.start(self.environment, k))(
            jax.random.split(reset_key, lanes)
        )
        start = jax.tree.map(lambda x: x[0], starts)
        kept, age = self._kept(start.state)
        example = Rows(
            observation=kept,
            action=jnp.zeros((), jnp.int32),
            reward=jnp.zeros(()),
            terminated=jnp.array(False),
            last=jnp.array(False),
            policy=jnp.zeros((spec.num_actions,)),
            value=jnp.zeros(()),
            age=age,
        )
        return AgentState(
            agent=agent,
            average=jax.tree.map(jnp.copy, agent),
            optimiser=self.optimiser.init(Trained(agent, own_parameters).all),
            replay=replay.create(example, config.replay.capacity // lanes, lanes, self.stack),
            episodes=starts,
            key=own,
            terms=own_parameters,
        )

    def _kept(self, state: State) -> tuple[Array, Array | None]:
        """What the replay keeps of a state: :attr:`Rows.observation` and :attr:`Rows.age`."""
        if self._frames:
            return self._frames.frame(state), self._frames.age(state).astype(jnp.int8)
        return self.environment.observe(state), None

    def _shown(self, kept: Array) -> Float[Array, "..."]:
        """The observation of what the replay recalled."""
        if self._frames:
            return self._frames.observe_frames(kept)
        return kept

    def run(
        self, state: AgentState, first: Int[Array, ""], rounds: int
    ) -> tuple[AgentState, RoundMetrics]:
        """``rounds`` rounds from number ``first``; metrics have a leading [rounds] axis."""
        numbers = first + jnp.arange(rounds)
        keys = jax.vmap(lambda n: jax.random.fold_in(state.key, n))(numbers)
        # All of a call's Dirichlet noise at once: its rejection loops are slow one by one.
        train, actions = self.config.train, self.environment.spec.num_actions
        roots = train.lanes + train.reanalysed_per_round
        alpha = jnp.full((actions,), self.config.search.dirichlet_alpha)
        keys, noise_keys = jnp.moveaxis(jax.vmap(jax.random.split)(keys), 1, 0)
        noise = jax.vmap(lambda k: jax.random.dirichlet(k, alpha, (roots,)))(noise_keys)

        def body(carry, inputs):
            return self._round(carry, *inputs)

        return jax.lax.scan(body, state, (numbers, keys, noise))

    def training_step(self, number: Int[Array, ""]) -> Int[Array, ""]:
        """Updates done before round ``number``."""
        return jnp.maximum(number - self.warmup_rounds, 0) * self.config.train.updates_per_round

    def _round(
        self,
        state: AgentState,
        number: Int[Array, ""],
        key: Key[Array, ""],
        noise: Float[Array, "roots A"],
    ) -> tuple[AgentState, RoundMetrics]:
        act_key, learn_key = jax.random.split(key)
        step = self.training_step(number)
        state, outcome = self._act_and_reanalyse(state, step, act_key, noise)

        def learn():
            return self._learn(state, step, learn_key)

        def wait():
            nothing: dict[str, Any] = dict.fromkeys(RoundMetrics._fields, jnp.zeros(()))
            terms = {term.name: jnp.zeros(()) for term in self.terms}
            return self._before(state), RoundMetrics(**{**nothing, "terms": terms})

        # The number is the same for every agent, so under vmap this stays a branch.
        learned, metrics = jax.lax.cond(number >= self.warmup_rounds, learn, wait)
        state = state._replace(
            agent=learned.trained.agent,
            average=learned.average,
            optimiser=learned.optimiser,
            replay=state.replay._replace(weight=learned.weight),
            terms=learned.trained.terms,
        )
        finished = jnp.sum(outcome.finished).astype(jnp.float32)
        return state, metrics._replace(episodes=finished, score=jnp.sum(outcome.score))

    def _act_and_reanalyse(
        self,
        state: AgentState,
        step: Int[Array, ""],
        key: Key[Array, ""],
        noise: Float[Array, "roots A"],
    ) -> tuple[AgentState, episode.Outcome]:
        """One search over the lanes and the reanalysed rows; act; store."""
        train, config = self.config.train, self.config
        draw_key, search_key, action_key, reset_key = jax.random.split(key, 4)
        old = replay.draw_distinct(draw_key, state.replay, train.reanalysed_per_round)
        kept, age = jax.vmap(self._kept)(state.episodes.state)
        memory = replay.begin(state.replay, kept)
        now = jax.vmap(self.environment.observe)(state.episodes.state)
        then = jax.vmap(lambda i: self._shown(replay.recall(memory, i)))(old)

        parts = learned_parts(state.average)
        roots = jax.vmap(state.average.represent)(jnp.concatenate([now, then]))
        prior = jax.nn.softmax(jax.vmap(parts.prior)(roots))
        prior = mix_root_noise(prior, noise, config.search.dirichlet_fraction)
        searched = search(
            parts, roots, search_key, config.search, config.environment.discount, prior
        )
        policy = searched.visits / config.search.simulations

        # Refresh before the new row is finished: it may overwrite a row that was just searched.
        memory = replay.refresh(memory, old, policy[train.lanes :], searched.value[train.lanes :])
        scheduled = temperature_at(step, train.steps, train.temperatures)
        cold = jnp.arange(train.lanes) < train.cold_lanes
        temperature = jnp.where(cold, train.temperatures[-1], scheduled)[:, None]
        action = sample_action(action_key, searched.visits[: train.lanes], temperature)
        following, outcome = jax.vmap(lambda e, a, k: episode.advance(self.environment, e, a, k))(
            state.episodes, action, jax.random.split(reset_key, train.lanes)
        )
        memory = replay.finish(
            memory,
            Rows(
                observation=kept,
                action=action.astype(jnp.int32),
                reward=outcome.reward,
                terminated=outcome.terminated,
                last=state.episodes.last,
                policy=policy[: train.lanes],
                value=searched.value[: train.lanes],
                age=age,
            ),
        )
        return state._replace(replay=memory, episodes=following), outcome

    def _learn(
        self, state: AgentState, step: Int[Array, ""], key: Key[Array, ""]
    ) -> tuple[_Learned, RoundMetrics]:
        """``updates_per_round`` gradient updates."""
        train = self.config.train

        def update(carry, inputs):
            offset, update_key = inputs
            memory = state.replay._replace(weight=carry.weight)
            trained, optimiser_state, memory, logs = self.update(
                carry.trained, carry.optimiser, memory, step + offset, update_key
            )
            agent, rate = trained.agent, self.config.optimiser.average_rate
            average = optax.incremental_update(agent, carry.average, rate)
            average = standardise.copied(agent, average)  # to the bit
            return _Learned(trained, average, optimiser_state, memory.weight), logs

        count = train.updates_per_round
        inputs = (jnp.arange(count), jax.random.split(key, count))
        carry, logs = jax.lax.scan(update, self._before(state), inputs)
        policy, value, reward, norm, terms = jax.tree.map(jnp.sum, logs)
        updates, zero = jnp.float32(count), jnp.zeros(())
        return carry, RoundMetrics(updates, policy, value, reward, norm, zero, zero, terms)

    def _before(self, state: AgentState) -> _Learned:
        """What updates begin with."""
        trained = Trained(state.agent, state.terms)
        return _Learned(trained, state.average, state.optimiser, state.replay.weight)

    def batch(self, memory: Replay, index: Int[Array, "B"]) -> Targets:
        """What rows of the replay are to teach, [B, ...]."""
        config = self.config.loss
        length = config.unroll + config.n_step + 1

        def target(i):
            w = targets.window(memory, i, length)
            made = targets.make(w, config.unroll, config.n_step, self.config.environment.discount)
            made = made._replace(observation=self._shown(made.observation))
            if not any(term.term.later for term in self.terms):
                return made
            rows = replay.ahead(memory, i, jnp.arange(1, config.unroll + 1))
            return made._replace(
                later=jax.vmap(lambda row: self._shown(replay.recall(memory, row)))(rows)
            )

        return jax.vmap(target)(index)

    def batch_loss(
        self, trained: Trained, batch: Targets, importance: Float[Array, "B"]
    ) -> tuple[Float[Array, ""], LossTerms]:
        """The mean loss, and its parts [B]."""
        agent, own = trained

        def of_position(position: Targets) -> tuple[Float[Array, ""], LossTerms]:
            return loss.loss(agent, position, self.config.loss, self.terms, own)

        losses, terms = jax.vmap(of_position)(batch)
        return jnp.mean(importance * losses), terms

    def losses_of(self, state: AgentState, index: Int[Array, "B"]) -> LossTerms:
        """The parts of the loss of some of an agent's rows, [B]."""
        batch = self.batch(state.replay, index)
        ones = jnp.ones(index.shape)
        return self.batch_loss(Trained(state.agent, state.terms), batch, ones)[1]

    def update(
        self,
        trained: Trained,
        optimiser_state: optax.OptState,
        memory: Replay,
        step: Int[Array, ""] | int,
        key: Key[Array, ""],
    ) -> tuple[Trained, optax.OptState, Replay, _Logs]:
        """One gradient update, with the drawn rows' new priorities; ``key`` is consumed."""
        config = self.config
        beta0 = config.replay.importance_exponent
        beta = beta0 + (1.0 - beta0) * step / config.train.steps
        index, importance = replay.draw(key, memory, config.train.batch_size, beta)
        batch = self.batch(memory, index)
        of_batch = jax.grad(self.batch_loss, has_aux=True)
        grads, terms = of_batch(trained, batch, importance)
        updates, optimiser_state = self.optimiser.update(grads.all, optimiser_state, trained.all)
        changed = optax.apply_updates(trained.all, updates)
        trained = changed if trained.terms else Trained(changed, {})
        priority = terms.value_error + config.replay.priority_floor
        memory = replay.reprioritise(memory, index, priority, config.replay.priority_exponent)
        logs = _Logs(
            jnp.mean(terms.policy),
            jnp.mean(terms.value),
            jnp.mean(terms.reward),
            optax.tree.norm(grads),
            {name: jnp.mean(each) for name, each in terms.added.items()},
        )
        return trained, optimiser_state, memory, logs
