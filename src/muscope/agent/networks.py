"""The networks of a MuZero agent for one observation, one latent state, one action.

A population is this same module with a leading agent axis on every array; callers
``jax.vmap`` over agents and states.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from muscope import plugins
from muscope.agent.base import Latent, Prediction
from muscope.agent.support import Support
from muscope.config import NetworkConfig
from muscope.envs.base import Spec
from muscope.errors import ConfigError, MuscopeError, nearest


class Linear(eqx.Module):
    """x W + b with W stored [in, out].

    Row-major products of a batch of x run 1.3 to 2 times as fast on CPU as with
    ``equinox.nn.Linear``, which stores [out, in].
    """

    weight: Float[Array, "inputs outputs"]
    bias: Float[Array, "outputs"]

    def __init__(self, inputs: int, outputs: int, key: Key[Array, ""], *, zero: bool = False):
        scale = 0.0 if zero else (2.0 / inputs) ** 0.5
        self.weight = scale * jax.random.truncated_normal(key, -2.0, 2.0, (inputs, outputs))
        self.bias = jnp.zeros((outputs,))

    def __call__(self, x: Float[Array, "inputs"]) -> Float[Array, "outputs"]:
        return x @ self.weight + self.bias


def normalise(z: Float[Array, "D"]) -> Float[Array, "D"]:
    """Zero mean and unit variance over the components of one latent state."""
    centred = z - jnp.mean(z)
    return centred * jax.lax.rsqrt(jnp.mean(centred * centred) + 1e-5)


class Representation(eqx.Module):
    """h: observation to latent state z^0."""

    first: Linear
    second: Linear
    scale: tuple[float, ...] = eqx.field(static=True)

    def __init__(self, inputs: int, config: NetworkConfig, key: Key[Array, ""]):
        k1, k2 = jax.random.split(key)
        self.scale = config.input_scale
        if self.scale and len(self.scale) != inputs:
            raise ConfigError(
                f"network.input_scale has {len(self.scale)} factors for {inputs} components."
            )
        self.first = Linear(inputs, config.width, k1)
        self.second = Linear(config.width, config.latent, k2)

    def view(self, observation: Float[Array, "..."]) -> Float[Array, "inputs"]:
        """The observation as the first layer sees it."""
        x = observation.reshape(-1)
        return x * jnp.asarray(self.scale) if self.scale else x

    def __call__(self, observation: Float[Array, "..."]) -> Float[Array, "D"]:
        return normalise(self.second(jax.nn.relu(self.first(self.view(observation)))))


class Dynamics(eqx.Module):
    """g: latent state and action to the next latent state and the reward's logits."""

    state: Linear
    action: Linear
    change: Linear
    reward: Linear

    def __init__(self, num_actions: int, config: NetworkConfig, key: Key[Array, ""]):
        k1, k2, k3, k4 = jax.random.split(key, 4)
        self.state = Linear(config.latent, config.width, k1)
        self.action = Linear(num_actions, config.width, k2)
        self.change = Linear(config.width, config.latent, k3)
        self.reward = Linear(config.width, config.reward_bins, k4, zero=True)

    def __call__(
        self, z: Float[Array, "D"], action: Int[Array, ""]
    ) -> tuple[Float[Array, "D"], Float[Array, "bins"]]:
        one_hot = jax.nn.one_hot(action, self.action.weight.shape[0])
        x = jax.nn.relu(self.state(z) + self.action(one_hot))
        return normalise(z + self.change(x)), self.reward(x)


class Predictor(eqx.Module):
    """f: latent state to the policy's logits and the value's logits."""

    hidden: Linear
    policy: Linear
    value: Linear

    def __init__(self, num_actions: int, config: NetworkConfig, key: Key[Array, ""]):
        k1, k2, k3 = jax.random.split(key, 3)
        self.hidden = Linear(config.latent, config.width, k1)
        self.policy = Linear(config.width, num_actions, k2, zero=True)
        self.value = Linear(config.width, config.value_bins, k3, zero=True)

    def __call__(self, z: Float[Array, "D"]) -> tuple[Float[Array, "A"], Float[Array, "bins"]]:
        x = jax.nn.relu(self.hidden(z))
        return self.policy(x), self.value(x)


class MuZero(eqx.Module):
    """h, g and f of one agent, with scalar rewards and values at the door.

    Any modules with the signatures of :class:`Representation`, :class:`Dynamics` and
    :class:`Predictor` will do; the latent state may be any pytree of real arrays.
    """

    representation: Callable
    dynamics: Callable
    prediction: Callable
    value_support: Support = eqx.field(static=True)
    reward_support: Support = eqx.field(static=True)

    def represent(self, observation: Float[Array, "..."]) -> Latent:
        """z_t^0 = h(s_t)."""
        return self.representation(observation)

    def step(self, z: Latent, action: Int[Array, ""]) -> tuple[Latent, Float[Array, ""]]:
        """(z_t^{k+1}, u_t^k) = g(z_t^k, a_{t+k})."""
        following, reward_logits = self.dynamics(z, action)
        return following, self.reward_support.decode(reward_logits)

    def predict(self, z: Latent) -> Prediction:
        """pi_t^k, v_t^k = f(z_t^k)."""
        policy_logits, value_logits = self.prediction(z)
        return Prediction(policy_logits, self.value_support.decode(value_logits))

    def seen(self, observation: Float[Array, "..."]) -> Float[Array, "..."]:
        """What h makes of an observation before its first layer, if its module says so by a
        function ``view``: components scaled, pixels standardised.
        """
        h = self.representation
        view = getattr(h.whole if isinstance(h, Parted) else h, "view", None)
        return observation if view is None else view(observation)


Builder = Callable[[NetworkConfig, Spec, Key[Array, ""]], MuZero]


def _mlp(config: NetworkConfig, spec: Spec, key: Key[Array, ""]) -> MuZero:
    inputs = 1
    for size in spec.observation_shape:
        inputs *= size
    k1, k2, k3 = jax.random.split(key, 3)
    return MuZero(
        Representation(inputs, config, k1),
        Dynamics(spec.num_actions, config, k2),
        Predictor(spec.num_actions, config, k3),
        Support(config.value_limit, config.value_bins),
        Support(config.reward_limit, config.reward_bins),
    )


class _Kind(NamedTuple):
    build: Builder
    in_turn_on_cpu: bool = False


_KINDS: dict[str, _Kind] = {"mlp": _Kind(_mlp)}


def register(kind: str, builder: Builder, in_turn_on_cpu: bool = False) -> None:
    """Make ``kind`` known to ``network.kind``.

    Args:
        kind: its name.
        builder: makes one agent.
        in_turn_on_cpu: on a CPU, agents of this kind on one device are better run one after the
            other than side by side.

    Raises:
        ConfigError: the name is taken.

    """
    if kind in _KINDS:
        raise ConfigError(f"network '{kind}' is already registered; choose another name.")
    _KINDS[kind] = _Kind(builder, in_turn_on_cpu)


def _kind(name: str) -> _Kind:
    if name in _KINDS:
        return _KINDS[name]
    if plugins.is_source(name):
        builder = plugins.load(name)
        return _Kind(builder, getattr(builder, "in_turn_on_cpu", False))
    raise ConfigError(f"unknown network '{name}'.{nearest(name, _KINDS)}")


def absolute(name: str) -> str:
    """The same kind's name from any working directory."""
    return plugins.absolute(name) if name not in _KINDS and plugins.is_source(name) else name


def in_turn(config: NetworkConfig, platform: str) -> bool:
    """Whether agents on one device are better run one after the other than side by side."""
    return platform == "cpu" and _kind(config.kind).in_turn_on_cpu


class Parted(eqx.Module):
    """A module whose arrays are parameters while its other leaves stand still.

    Everywhere else an agent is a pytree of arrays; modules such as ``eqx.nn.MLP`` have functions
    and numbers among their leaves.
    """

    arrays: Any
    """The module without its other leaves."""
    others: tuple[Any, ...] = eqx.field(static=True)
    structure: Any = eqx.field(static=True)
    """The module's with nothing but ``others``."""

    @property
    def whole(self) -> Any:
        """The module as it was."""
        return eqx.combine(self.arrays, jax.tree.unflatten(self.structure, self.others))

    def __call__(self, *given: Any) -> Any:
        return self.whole(*given)


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array | np.ndarray | np.generic)


def parted(module: Any) -> Any:
    """The module, its leaves that are no arrays set apart if it has any.

    Raises:
        ConfigError: such a leaf cannot be static.

    """
    arrays, rest = eqx.partition(module, _is_array)
    for path, leaf in jax.tree_util.tree_leaves_with_path(rest):
        if type(leaf).__hash__ is None:
            raise ConfigError(
                f"a module's leaf {jax.tree_util.keystr(path)} is a {type(leaf).__name__}, which "
                "JAX cannot compile for; make it an array, or a tuple or function marked static."
            )
    others, structure = jax.tree.flatten(rest)
    return Parted(arrays, tuple(others), structure) if others else module


def build(config: NetworkConfig, spec: Spec, key: Key[Array, ""]) -> MuZero:
    """A freshly initialised agent for an environment, a pytree of nothing but arrays.

    Raises:
        ConfigError: ``config.kind`` is not known, fails, or what it builds is no MuZero.

    """
    agent = _built(config, spec, key)
    if not isinstance(agent, MuZero):
        raise ConfigError(
            f"network '{config.kind}' builds a {type(agent).__name__}; it must build a "
            "muscope.agent.MuZero of h, g, f and their supports."
        )
    return eqx.tree_at(_parts, agent, tuple(map(parted, _parts(agent))))


def _parts(agent: MuZero) -> tuple[Any, Any, Any]:
    return agent.representation, agent.dynamics, agent.prediction


def _built(config: NetworkConfig, spec: Spec, key: Key[Array, ""]) -> Any:
    """What the kind builds, where an error in a user's own is told in one line."""
    builder = _kind(config.kind).build
    if config.kind in _KINDS:
        return builder(config, spec, key)
    try:
        return builder(config, spec, key)
    except MuscopeError:
        raise
    except Exception as error:
        raise ConfigError(
            f"network '{config.kind}' cannot be built: {plugins.told(error)}; it is "
            "called with the network's settings, the environment's spec and a key."
        ) from error
