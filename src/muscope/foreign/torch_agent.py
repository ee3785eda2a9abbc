"""PyTorch modules as an agent, called from the host in batches.  Needs the extra ``[torch]``.

The modules run as they are, on whole batches: however deeply ``jax.vmap`` is nested, a step of a
search is one call for all its lanes.  A call costs some hundred microseconds beyond what the
modules themselves take, so the latent state carries its own prediction
(:class:`~muscope.agent.base.Foretold`): ``step`` computes the next latent state, the reward, the
policy and the value at once, and ``predict`` only reads.
"""

from __future__ import annotations

import functools
import hashlib
import threading
import types
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from muscope import fingerprint, runtime
from muscope.agent.base import Foretold, Prediction
from muscope.envs.base import Spec
from muscope.errors import ConfigError, HostError
from muscope.host_call import host_call


class TorchModules(NamedTuple):
    """h, g and f on batches of B; modules, methods of modules or functions.

    A latent state is a float32 tensor [B, ...], or a tuple, list or dictionary of tensors.
    """

    represent: Callable[[Any], Any]
    """Observations [B, *observation_shape] to latent states."""
    dynamics: Callable[[Any, Any], tuple[Any, Any]]
    """Latent states and actions [B] (int64) to the next ones and rewards [B] or [B, 1]."""
    predict: Callable[[Any], tuple[Any, Any]]
    """Latent states to policy logits [B, A] and values [B] or [B, 1]; scalars, not bins."""


class TorchAgent(eqx.Module):
    """One agent of PyTorch modules, or a population; see :class:`muscope.agent.base.Agent`.

    Its only leaf is the agent's number.

    Args:
        modules: one agent's, or a sequence of P agents', which then have a leading axis [P] and
            latent states of the same shapes.  Modules are put into evaluation mode.
        spec: of the environment.
        device: where the modules are, in PyTorch's words.
        threads: of PyTorch in a call; by default 1, and all cores where observations are images.
            JAX's devices call one after the other: at once they would only wait for Python.

    Raises:
        ConfigError: PyTorch is not installed, or a batch of zeros gives outputs of other shapes
            than :class:`TorchModules` says.

    """

    index: Int[Array, "*P"]
    host: _Host = eqx.field(static=True)

    def __init__(
        self,
        modules: TorchModules | Sequence[TorchModules],
        spec: Spec,
        *,
        device: str = "cpu",
        threads: int | None = None,
    ):
        agents = [modules] if isinstance(modules, TorchModules) else list(modules)
        single = isinstance(modules, TorchModules)
        self.host = _Host(agents, spec, device, threads)
        self.index = jnp.zeros((), jnp.int32) if single else jnp.arange(len(agents))

    def members(self) -> list[TorchAgent]:
        """The agents of a population, each by itself."""
        return [eqx.tree_at(lambda a: a.index, self, i) for i in jnp.atleast_1d(self.index)]

    def digest(self) -> str:
        """SHA-256 of all agents' parameters, which live in PyTorch."""
        return self.host.digest()

    def represent(self, observation: Float[Array, "..."]) -> Foretold:
        """h, and f of it."""
        return host_call(self.host.represent, self.host.latent, self.index, observation)

    def step(self, z: Foretold, action: Int[Array, ""]) -> tuple[Foretold, Float[Array, ""]]:
        """g, and f of the next latent state."""
        reward = jax.ShapeDtypeStruct((), np.float32)
        action = jnp.asarray(action, jnp.int32)
        return host_call(self.host.step, (self.host.latent, reward), self.index, z.z, action)

    def predict(self, z: Foretold) -> Prediction:
        """What ``represent`` or ``step`` has kept."""
        return Prediction(z.policy_logits, z.value)


class _Host:
    """The modules, and how arrays get to them and back."""

    def __init__(self, agents: list[TorchModules], spec: Spec, device: str, threads: int | None):
        try:
            import torch
        except ImportError:
            raise ConfigError(
                "an agent of PyTorch modules needs PyTorch: pip install 'muscope[torch]'."
            ) from None
        self._torch, self._agents, self._device = torch, agents, torch.device(device)
        self._threads = threads or (runtime.cores() if len(spec.observation_shape) > 1 else 1)
        self._lock = threading.Lock()
        if not agents:
            raise ConfigError("a population of PyTorch agents needs at least one.")
        self._modules = [module for agent in agents for module in _modules_of(agent, torch)]
        for module in self._modules:
            module.eval()
        trials = [self._trial(agent, spec) for agent in agents]
        self.latent, self._dtypes = trials[0]
        for number, (latent, _) in enumerate(trials):
            if latent != self.latent:
                raise ConfigError(
                    f"agent {number}'s latent states have other shapes than agent 0's: "
                    f"{_words(latent.z)}, not {_words(self.latent.z)}."
                )

    def digest(self) -> str:
        """Of the parameters and buffers of every module, in order."""
        total = hashlib.sha256()
        for module in self._modules:
            for name, tensor in sorted(module.state_dict().items()):
                total.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)};".encode())
                total.update(tensor.cpu().numpy().tobytes())
        code = fingerprint.of_code(*self._agents, *map(type, self._modules))
        total.update(repr(code).encode())
        return total.hexdigest()

    def _trial(self, agent: TorchModules, spec: Spec) -> tuple[Foretold, Any]:
        """The shapes of one lane's latent state and prediction, and the tensors' types."""
        torch, batch = self._torch, 3
        seen = torch.zeros((batch, *spec.observation_shape), device=self._device)
        with torch.inference_mode():
            z = _tried("represent", agent.represent, seen)
            kept = self._kept(z, "represent", batch)
            actions = torch.zeros((batch,), dtype=torch.int64, device=self._device)
            following, reward = _pair("dynamics", _tried("dynamics", agent.dynamics, z, actions))
            again = self._kept(following, "dynamics", batch)
            policy, value = _pair("predict", _tried("predict", agent.predict, z))
        if again != kept:
            raise ConfigError(
                f"dynamics gives latent states {_words(again)}, represent {_words(kept)}; "
                "they must be alike."
            )
        _must(policy, "predict's policy logits", [(batch, spec.num_actions)])
        _must(value, "predict's value", [(batch,), (batch, 1)])
        _must(reward, "dynamics' reward", [(batch,), (batch, 1)])
        number = jax.ShapeDtypeStruct((), np.float32)
        logits = jax.ShapeDtypeStruct((spec.num_actions,), np.float32)
        return Foretold(kept, logits, number), jax.tree.map(lambda x: x.dtype, z)

    def _kept(self, z: Any, name: str, batch: int) -> Any:
        """The shapes and types of one lane's latent state as JAX keeps it."""

        def of_one_lane(x: Any) -> jax.ShapeDtypeStruct:
            if not isinstance(x, self._torch.Tensor) or x.ndim < 1 or x.shape[0] != batch:
                raise ConfigError(
                    f"{name} must give latent states [{batch}, ...] for a batch of {batch}, not "
                    f"{_words(x)}."
                )
            dtype = x.cpu().numpy().dtype
            return jax.ShapeDtypeStruct(tuple(x.shape[1:]), jax.dtypes.canonicalize_dtype(dtype))

        return jax.tree.map(of_one_lane, z)

    def represent(self, latent: Any, index: np.ndarray, observation: np.ndarray) -> None:
        """The latent states of all lanes' observations, with f of them."""
        core = observation.shape[index.ndim :]

        def work(agent: TorchModules, rows: slice | np.ndarray) -> None:
            z = agent.represent(self._tensor(observation.reshape(-1, *core)[rows]))
            self._write(latent, index, rows, z, agent.predict(z))

        self._each("represent", index, work)

    def step(self, outputs: Any, index: np.ndarray, z: Any, action: np.ndarray) -> None:
        """The next latent states of all lanes, with f of them, and the rewards."""
        latent, rewards = outputs
        flat = jax.tree.map(lambda x, s: x.reshape(-1, *s.shape), z, self.latent.z)

        def work(agent: TorchModules, rows: slice | np.ndarray) -> None:
            here = jax.tree.map(lambda x, t: self._tensor(x[rows]).to(t), flat, self._dtypes)
            actions = self._tensor(action.reshape(-1)[rows]).long()
            following, reward = agent.dynamics(here, actions)
            rewards.reshape(-1)[rows] = self._array(reward).reshape(-1)
            self._write(latent, index, rows, following, agent.predict(following))

        self._each("dynamics", index, work)

    def _each(
        self,
        name: str,
        index: np.ndarray,
        work: Callable[[TorchModules, slice | np.ndarray], None],
    ) -> None:
        """Do each agent's share of the work, on its own lanes."""
        torch = self._torch
        try:
            with self._lock, torch.inference_mode():
                if torch.get_num_threads() != self._threads:
                    torch.set_num_threads(self._threads)
                if len(self._agents) == 1:
                    work(self._agents[0], slice(None))
                    return
                numbers = index.reshape(-1)
                for number in np.unique(numbers):
                    work(self._agents[number], np.flatnonzero(numbers == number))
        except Exception as error:
            raise HostError(
                f"the PyTorch agent's {name} or predict failed on a batch of {index.size}: "
                f"{type(error).__name__}: {error}"
            ) from error

    def _write(
        self, latent: Any, index: np.ndarray, rows: slice | np.ndarray, z: Any, prediction: Any
    ) -> None:
        policy_logits, value = prediction

        def put(out: np.ndarray, shape: jax.ShapeDtypeStruct, x: Any) -> None:
            out.reshape(-1, *shape.shape)[rows] = self._array(x).reshape(-1, *shape.shape)

        jax.tree.map(put, latent, self.latent, Foretold(z, policy_logits, value))

    def _tensor(self, array: np.ndarray) -> Any:
        """A tensor of a copy: modules may work in place, and XLA's buffers are not theirs."""
        return self._torch.from_numpy(np.array(array)).to(self._device)

    def _array(self, tensor: Any) -> np.ndarray:
        return tensor.cpu().numpy()


def _modules_of(thing: Any, torch: Any, depth: int = 4) -> list[Any]:
    """The modules that a function, a method, an object or several of them hold, in order."""
    if isinstance(thing, torch.nn.Module):
        return [thing]
    if depth == 0:
        return []
    if isinstance(thing, functools.partial):
        parts = [thing.func, *thing.args, *thing.keywords.values()]
    elif isinstance(thing, types.MethodType):
        parts = [thing.__self__]
    elif isinstance(thing, types.FunctionType):
        names = [n for n in thing.__code__.co_names if n in thing.__globals__]
        cells = thing.__closure__ or ()
        parts = [*(c.cell_contents for c in cells), *(thing.__globals__[n] for n in names)]
    elif isinstance(thing, list | tuple):
        parts = list(thing)
    elif isinstance(thing, dict):
        parts = list(thing.values())
    else:
        parts = (
            []
            if isinstance(thing, type | types.ModuleType)
            else [*getattr(thing, "__dict__", {}).values()]
        )
    inner = [module for part in parts for module in _modules_of(part, torch, depth - 1)]
    return list(dict.fromkeys(inner))


def _tried(name: str, module: Callable, *arguments: Any) -> Any:
    try:
        return module(*arguments)
    except Exception as error:
        shapes = ", ".join(_words(x) for x in arguments)
        raise ConfigError(
            f"{name} fails on a batch of zeros ({shapes}): {type(error).__name__}: {error}"
        ) from error


def _pair(name: str, result: Any) -> tuple[Any, Any]:
    if not isinstance(result, tuple | list) or len(result) != 2:
        second = "reward" if name == "dynamics" else "value"
        first = "latent state" if name == "dynamics" else "policy logits"
        raise ConfigError(f"{name} must give two things, {first} and {second}.")
    return result[0], result[1]


def _must(x: Any, what: str, shapes: list[tuple[int, ...]]) -> None:
    shape = tuple(getattr(x, "shape", ()))
    if shape not in shapes:
        allowed = " or ".join(str(list(s)) for s in shapes)
        raise ConfigError(f"{what} must have the shape {allowed} for a batch, not {list(shape)}.")


def _words(tree: Any) -> str:
    """Shapes for messages."""
    shapes = [list(getattr(x, "shape", ["no tensor"])) for x in jax.tree.leaves(tree)]
    return " and ".join(map(str, shapes))
