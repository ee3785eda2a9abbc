"""What an auxiliary loss is.  Each owns everything about itself, in one module.

Settings with a weight, parameters of its own (projectors, decoders), and the loss of one sampled
position, from the latent states that the model was unrolled to.  Its parameters are trained with
the agent's and saved with the training's state; checkpoints hold the agent alone, because nobody
needs them to look at its model.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from muscope import plugins
from muscope.agent.base import Latent
from muscope.agent.networks import MuZero, parted
from muscope.config.base import Settings, Weight
from muscope.envs.base import Spec
from muscope.errors import ConfigError, MuscopeError
from muscope.learning.targets import Targets


@dataclass(frozen=True)
class TermSettings(Settings):
    """What every term can be told; a term's own settings are a class derived from this one."""

    weight: Weight = 1.0
    """Weight of the term beside the policy's; 0 leaves it out, to the bit."""


class Unrolled(NamedTuple):
    """One sampled position, its model unrolled.  K1 = K + 1; position k is k steps after t."""

    agent: MuZero
    """The parameters that are trained."""
    latents: Latent
    """z_t^0..z_t^K, [K1, ...], as f sees them: what a loss at position k sends back into the
    dynamics that made z_t^k is not scaled, only what comes from later positions is."""
    targets: Targets
    weight: Float[Array, "K1"]
    """Of MuZero's own losses: 1 at the root, ``loss.unroll_weight`` / K behind it."""

    @property
    def there(self) -> Float[Array, "K1"]:
        """1 where o_{t+k} is of the episode, 0 past its end and beyond what is known.

        A state in which an episode ends is never searched from, so it is not in the replay and
        counts as past the end.
        """
        return self.targets.policy_mask

    @property
    def observations(self) -> Float[Array, "K1 ..."]:
        """o_t..o_{t+K}, of a term that asks for later ones."""
        assert self.targets.later is not None
        return jnp.concatenate([self.targets.observation[None], self.targets.later])

    def total(self, losses: Float[Array, "L"]) -> Float[Array, ""]:
        """Losses of the last L positions (K1, or K without the root) as one, weighted as MuZero's
        own are; those past the end do not count.
        """
        kept = (self.weight * self.there)[-losses.shape[0] :]
        return jnp.sum(kept * losses)


def no_parameters(settings: Any, agent: MuZero, spec: Spec, key: Key[Array, ""]) -> None:
    """Those of a term without any."""


@dataclass(frozen=True)
class Term:
    """One auxiliary loss, ours or somebody's own."""

    name: str
    """Of its settings (``terms.NAME``) and in the training log."""
    loss: Callable[[Any, Any, Unrolled], Float[Array, ""]]
    """Its settings, its parameters and one position: the loss before its weight."""
    settings: type[TermSettings] = TermSettings
    """Its own settings; their section is ``terms.NAME``."""
    initial: Callable[[Any, MuZero, Spec, Key[Array, ""]], Any] = no_parameters
    """Its settings, an untrained agent, the environment's sizes and a key: its own parameters, a
    pytree of floats and modules."""
    later: bool = False
    """Whether it reads o_{t+1}..o_{t+K}, which are gathered only if a term does."""


class Chosen(NamedTuple):
    """A term of a run."""

    term: Term
    settings: TermSettings
    source: str
    """How the run's settings name it, from any working directory."""

    @property
    def name(self) -> str:
        """The term's."""
        return self.term.name

    def initial(self, agent: MuZero, spec: Spec, key: Key[Array, ""]) -> Any:
        """Its own parameters, arrays alone; ``key`` is consumed.

        Raises:
            ConfigError: its function fails, or gives what cannot be trained.

        """
        with self._blamed("initial"):
            made = self.term.initial(self.settings, agent, spec, key)
        made = jax.tree.map(lambda x: parted(x) if _is_module(x) else x, made, is_leaf=_is_module)
        for path, leaf in jax.tree_util.tree_leaves_with_path(made):
            kind = getattr(leaf, "dtype", None)
            if kind is None or not jnp.issubdtype(kind, jnp.floating):
                raise ConfigError(
                    f"auxiliary loss '{self.name}': its parameter {jax.tree_util.keystr(path)} is "
                    f"{kind or type(leaf).__name__}, which cannot be trained; make it floats, or a "
                    "part of an equinox.Module."
                )
        return made

    def loss(self, parameters: Any, unrolled: Unrolled) -> Float[Array, ""]:
        """Its loss of one position, before its weight.

        Raises:
            ConfigError: its function fails, or gives something else than one real number.

        """
        with self._blamed("loss"):
            given = self.term.loss(self.settings, parameters, unrolled)
        if jnp.shape(given) != () or not jnp.issubdtype(jnp.result_type(given), jnp.floating):
            raise ConfigError(
                f"auxiliary loss '{self.name}': its loss must give one real number, not "
                f"{jnp.result_type(given)}{list(jnp.shape(given))}."
            )
        return given

    @contextlib.contextmanager
    def _blamed(self, function: str) -> Iterator[None]:
        """Tell an error in one of a user's functions in one line; ours keep their traceback."""
        try:
            yield
        except MuscopeError:
            raise
        except Exception as error:
            if not plugins.is_source(self.source):
                raise
            raise ConfigError(
                f"auxiliary loss '{self.name}': its {function} fails: {plugins.told(error)}"
            ) from error


def _is_module(x: Any) -> bool:
    return isinstance(x, eqx.Module)


def form_of_latent(agent: MuZero, spec: Spec) -> Latent:
    """The shapes of one latent state."""
    seen = jax.ShapeDtypeStruct(spec.observation_shape, jnp.float32)
    return jax.eval_shape(agent.represent, seen)
