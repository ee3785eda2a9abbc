"""Whether an agent keeps its contract with an environment; asked before any long work."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from muscope.agent.base import Agent, Prediction
from muscope.envs.base import Environment
from muscope.errors import ConfigError

TRIAL = 16  # states whose outputs are looked at
OUTPUTS = (
    "represent's latent state",
    "step's latent state",
    "step's reward",
    "predict's policy and value",
    "predict's policy and value after a step",
)


def check_agents(agents: Agent, environment: Environment) -> None:
    """Try agents on a few states of their environment.

    Args:
        agents: pytree of [P, ...].
        environment: whose observations they see.

    Raises:
        ConfigError: a function fails or gives another shape than
            :class:`muscope.agent.base.Agent` says, the latent state changes its form in a step, or
            an output is not finite.

    """
    first = jax.tree.map(lambda x: jnp.asarray(x)[0], agents)
    _check_forms(first, environment)
    states = jax.vmap(environment.reset)(jax.random.split(jax.random.key(0), TRIAL))
    actions = jnp.arange(TRIAL) % environment.spec.num_actions

    def outputs(agent: Agent, state: Any, action: Array) -> tuple[Any, ...]:
        z = agent.represent(environment.observe(state))
        following, reward = agent.step(z, action)
        return z, following, reward, agent.predict(z), agent.predict(following)

    population = jax.vmap(jax.vmap(outputs, in_axes=(None, 0, 0)), in_axes=(0, None, None))
    given = jax.device_get(jax.jit(population)(agents, states, actions))
    for what, arrays in zip(OUTPUTS, given, strict=True):
        for array in jax.tree.leaves(arrays):
            if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
                agent = int(np.argwhere(~np.isfinite(array))[0][0])
                raise ConfigError(
                    f"{what} is not finite at a start of '{environment.spec.name}' (agent "
                    f"{agent}); look for a division by zero, or a parameter that is NaN."
                )


def _check_forms(agent: Agent, environment: Environment) -> None:
    """Shapes and types, without computing anything."""
    spec = environment.spec
    observation = jax.ShapeDtypeStruct(spec.observation_shape, jnp.float32)
    action = jax.ShapeDtypeStruct((), jnp.int32)
    z = _form("represent", agent.represent, observation)
    stepped = _form("step", agent.step, z, action)
    if not isinstance(stepped, tuple) or len(stepped) != 2:
        raise ConfigError("an agent's step must return (latent state, reward).")
    following, reward = stepped
    if _described(following) != _described(z) or _structure(following) != _structure(z):
        raise ConfigError(
            "an agent's step must return a latent state of the form that it takes: "
            f"{_described(z)}, not {_described(following)}."
        )
    _refuse_shape("step's reward", reward, ())
    prediction = _form("predict", agent.predict, z)
    if not isinstance(prediction, Prediction):
        raise ConfigError(
            "an agent's predict must return muscope.agent.Prediction(policy_logits, value), not "
            f"{type(prediction).__name__}."
        )
    _refuse_shape("predict's policy_logits", prediction.policy_logits, (spec.num_actions,))
    _refuse_shape("predict's value", prediction.value, ())


def _form(name: str, function: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return jax.eval_shape(function, *arguments)
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else ""
        raise ConfigError(
            f"an agent's {name} fails on {_described(arguments)}: {type(error).__name__}: {reason}"
        ) from error


def _structure(tree: Any) -> str:
    return str(jax.tree.structure(tree))


def _described(tree: Any) -> list[str]:
    return [f"{np.dtype(x.dtype).name}{list(x.shape)}" for x in jax.tree.leaves(tree)]


def _refuse_shape(what: str, given: Any, wanted: tuple[int, ...]) -> None:
    shape = getattr(given, "shape", None)
    if shape != wanted:
        raise ConfigError(f"an agent's {what} has shape {shape}; it must be {wanted}.")
    if not np.issubdtype(given.dtype, np.floating):
        raise ConfigError(f"an agent's {what} is {given.dtype}; it must be a real number.")
