"""Whether an agent keeps its contract with an environment; asked before any long work."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from muscope import plugins
from muscope.agent.base import Agent, Foretold, Latent, Prediction
from muscope.agent.networks import MuZero
from muscope.envs.base import Environment, Spec
from muscope.envs.trial import structure
from muscope.errors import ConfigError

TRIAL = 16  # states whose outputs are looked at
OUTPUTS = (
    "represent's latent state",
    "step's latent state",
    "step's reward",
    "predict's policy",
    "predict's value",
    "predict's policy after a step",
    "predict's value after a step",
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
    _check_forms(first, environment.spec)
    states = jax.vmap(environment.reset)(jax.random.split(jax.random.key(0), TRIAL))
    actions = jnp.arange(TRIAL) % environment.spec.num_actions

    def outputs(agent: Agent, state: Any, action: Array) -> tuple[Any, ...]:
        z = agent.represent(environment.observe(state))
        following, reward = agent.step(z, action)
        predicted = (*agent.predict(z), *agent.predict(following))
        return _alone(z), _alone(following), reward, *predicted

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


def _alone(z: Latent) -> Latent:
    """A latent state without what f says of it, which is f's to answer for."""
    return z.z if isinstance(z, Foretold) else z


def check_network(network: MuZero, spec: Spec, name: str) -> None:
    """Try a network that is to be trained, without computing anything.

    Args:
        network: its arrays may be ``jax.ShapeDtypeStruct``.
        spec: of the environment.
        name: of the network, for messages.

    Raises:
        ConfigError: a leaf cannot be trained, a function fails, or gives what neither the
            environment nor the supports have room for.

    """
    whose = f"network '{name}': its"
    for path, leaf in jax.tree_util.tree_leaves_with_path(network):
        if not _is_real(leaf):
            place = jax.tree_util.keystr(path).replace(".arrays", "", 1)  # Of a Parted.
            raise ConfigError(
                f"{whose} leaf {place} is {leaf.dtype}, which cannot be "
                "trained; make it floats, or a tuple marked static (equinox.field(static=True))."
            )
    observation, action = _inputs(spec)
    z = _form(whose, "representation", lambda n, *x: n.representation(*x), network, observation)
    _refuse_latent(f"{whose} representation", z)
    moved = _form(whose, "dynamics", lambda n, *x: n.dynamics(*x), network, z, action)
    following, reward = _pair(f"{whose} dynamics", moved, "(latent state, reward logits)")
    _refuse_other_form(f"{whose} dynamics", z, following)
    predicted = _form(whose, "prediction", lambda n, *x: n.prediction(*x), network, z)
    policy, value = _pair(f"{whose} prediction", predicted, "(policy logits, value logits)")
    actions, values, rewards = (
        (spec.num_actions, "one per action"),
        (network.value_support.bins, "one per bin of its value support (network.value_bins)"),
        (network.reward_support.bins, "one per bin of its reward support (network.reward_bins)"),
    )
    for what, given, (count, why) in (
        ("prediction's policy logits", policy, actions),
        ("prediction's value logits", value, values),
        ("dynamics' reward logits", reward, rewards),
    ):
        if getattr(given, "shape", None) != (count,) or not _is_real(given):
            raise ConfigError(
                f"{whose} {what} are {_words(given)}; they must be {count} real numbers, {why}."
            )


def _check_forms(agent: Agent, spec: Spec) -> None:
    """Shapes and types, without computing anything."""
    observation, action = _inputs(spec)
    z = _form("an agent's", "represent", agent.represent, observation)
    stepped = _form("an agent's", "step", agent.step, z, action)
    following, reward = _pair("an agent's step", stepped, "(latent state, reward)")
    _refuse_other_form("an agent's step", z, following)
    _refuse_shape("step's reward", reward, ())
    prediction = _form("an agent's", "predict", agent.predict, z)
    if not isinstance(prediction, Prediction):
        raise ConfigError(
            "an agent's predict must return muscope.agent.Prediction(policy_logits, value), not "
            f"{type(prediction).__name__}."
        )
    _refuse_shape("predict's policy_logits", prediction.policy_logits, (spec.num_actions,))
    _refuse_shape("predict's value", prediction.value, ())


def _inputs(spec: Spec) -> tuple[jax.ShapeDtypeStruct, jax.ShapeDtypeStruct]:
    """An observation and an action."""
    observation = jax.ShapeDtypeStruct(spec.observation_shape, jnp.float32)
    return observation, jax.ShapeDtypeStruct((), jnp.int32)


def _form(whose: str, name: str, function: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return jax.eval_shape(function, *arguments)
    except Exception as error:
        inputs = [x for x in arguments if not isinstance(x, MuZero)]
        raise ConfigError(
            f"{whose} {name} fails on {_words(inputs)}: {plugins.told(error)}"
        ) from error


def _pair(what: str, given: Any, wanted: str) -> tuple[Any, Any]:
    if not isinstance(given, tuple) or len(given) != 2:
        raise ConfigError(f"{what} must return {wanted}.")
    return given


def _refuse_latent(what: str, z: Any) -> None:
    """A latent state that training cannot scale the gradient of."""
    if not jax.tree.leaves(z) or not all(map(_is_real, jax.tree.leaves(z))):
        raise ConfigError(f"{what} gives {_words(z)}; a latent state must be arrays of floats.")


def _refuse_other_form(what: str, z: Any, following: Any) -> None:
    alike = structure(following) == structure(z)
    if _described(following) != _described(z) or not alike:
        raise ConfigError(
            f"{what} must return a latent state of the form that it takes: {_words(z)}, not "
            f"{_words(following)}{'' if alike else ' in another structure'}."
        )


def _described(tree: Any) -> list[str]:
    return [f"{x.dtype}{list(x.shape)}" for x in jax.tree.leaves(tree)]


def _words(tree: Any) -> str:
    return " and ".join(_described(tree)) or "nothing"


def _is_real(x: Any) -> bool:
    return hasattr(x, "dtype") and jnp.issubdtype(x.dtype, jnp.floating)


def _refuse_shape(what: str, given: Any, wanted: tuple[int, ...]) -> None:
    shape = getattr(given, "shape", None)
    if shape != wanted:
        raise ConfigError(f"an agent's {what} has shape {shape}; it must be {wanted}.")
    if not _is_real(given):
        raise ConfigError(f"an agent's {what} is {given.dtype}; it must be a real number.")
