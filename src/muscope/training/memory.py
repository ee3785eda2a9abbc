"""What training takes of memory, counted from the shapes of its arrays before any is made.

Counted are an agent's state (networks, their average, the optimiser's moments, the replay, the
environments), and on top of it the greatest of what is needed in turn: a call's root noise and
searches, an update, or a save of the state.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from muscope import envs
from muscope.config import Config
from muscope.envs.host import HostEnvironment
from muscope.room import Part, nbytes, total, widest
from muscope.search.tree import bytes_per_root
from muscope.training.agent import AgentProgram, AgentState, Trained

NOISE_COPIES = 40
"""Arrays of the root noise's size while it is drawn: keys, gamma variables, their rejections."""
SCRATCH = 1.25
"""Times the trees and the activations that a program takes for them, its scratch arrays too."""
SAVE_COPIES = 2
"""Of the state while it is saved: the arrays on the host, and the file's bytes."""


def of_one_agent(program: AgentProgram) -> tuple[list[Part], list[Part]]:
    """What an agent keeps, and the greatest that it needs besides at some time.

    Raises:
        ConfigError: sizes that do not fit together.

    """
    state: AgentState = jax.eval_shape(program.initial, jax.random.key(0))
    network = f"{sizes_of_network(program.config)} or train.agents"
    networks = state.agent, state.average, state.optimiser, state.terms
    kept = [
        Part("the networks", nbytes(networks), network),
        Part("the replay", nbytes(state.replay), "replay.capacity or train.agents"),
        Part("the environments", nbytes(state.episodes), "train.lanes or train.agents"),
    ]
    return kept, max(_acting(program, state), _updating(program, state), key=total)


def saving(kept: list[Part]) -> list[Part]:
    """What a save of the state takes besides it, where devices and host share one memory."""
    return [Part(f"saving {part.what}", SAVE_COPIES * part.size, part.mend) for part in kept]


def sizes_of_network(config: Config) -> str:
    """The settings to lower if the networks are too large."""
    terms = ", loss.terms" if config.loss.terms else ""
    if config.network.kind == "mlp":
        return f"network.width, network.latent{terms}"
    return f"network.channels, network.width{terms}"


def of_host(config: Config) -> list[Part]:
    """What a simulator on the host may keep."""
    environment = envs.make(config.environment)
    if not isinstance(environment, HostEnvironment):
        return []
    setting = "environment.options.host.memory_megabytes"
    return [Part("the simulator's results", environment.simulator.memo.size, setting)]


def _acting(program: AgentProgram, state: AgentState) -> list[Part]:
    """Drawing a call's noise, and one search."""
    train, config = program.config.train, program.config
    actions = program.environment.spec.num_actions
    roots = train.lanes + train.reanalysed_per_round
    lanes = "train.lanes, train.reanalyse_ratio"
    observation = jax.ShapeDtypeStruct(program.environment.spec.observation_shape, jnp.float32)
    latent = jax.eval_shape(lambda agent, o: agent.represent(o), state.agent, observation)
    tree = bytes_per_root(latent, actions, config.search.simulations)
    pass_ = 2 * widest(lambda agent, o: agent.predict(agent.represent(o)), state.agent, observation)
    noise = train.call_rounds * roots * actions * 4
    return [
        Part("the root noise of a call", NOISE_COPIES * noise, f"train.rounds_per_call, {lanes}"),
        Part("the search trees", int(SCRATCH * roots * tree), f"search.simulations, {lanes}"),
        Part("the roots' pass through the network", roots * (pass_ + nbytes(observation)), lanes),
    ]


def _updating(program: AgentProgram, state: AgentState) -> list[Part]:
    """One update: its batch, what the gradient needs of the forward pass, and the gradient."""
    size = program.config.train.batch_size
    index = jax.ShapeDtypeStruct((size,), jnp.int32)
    importance = jax.ShapeDtypeStruct((size,), jnp.float32)
    batch = jax.eval_shape(program.batch, state.replay, index)
    trained = Trained(state.agent, state.terms)

    def residuals(trained, batch, importance):
        def of_trained(trained):
            return program.batch_loss(trained, batch, importance)[0]

        return jax.vjp(of_trained, trained)[1]

    forward = jax.eval_shape(residuals, trained, batch, importance)
    mend = f"train.batch_size, loss.unroll, {sizes_of_network(program.config)}"
    return [
        Part("the batch", nbytes(batch), mend),
        Part("an update's activations", int(SCRATCH * nbytes(forward)), mend),
        Part("the gradient", nbytes(trained), sizes_of_network(program.config)),
    ]
