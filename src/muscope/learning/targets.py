"""Training targets of one sampled position, from a window of stored rows.

A window is the K + n + 1 rows that follow a position t in one lane.  It may run past the
end of an episode or past the newest row; the rules are:

* termination: every later reward and value is 0 (absorbing), and the policy there has no
  target; the learned model is thereby told that episodes end;
* truncation (a ``last`` row) and the newest row: the future is unknown; value targets
  bootstrap from that row's own v^MCTS, and nothing beyond it is trained.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Num

from muscope.learning.replay import Replay, Rows, recall


class Window(NamedTuple):
    """Rows t..t+K+n of one lane, and where knowledge stops.  L = K + n + 1."""

    rows: Rows
    """Without observations."""
    boundary: Bool[Array, "L"]
    """This row's state is known but its future is not: truncated, or the newest row."""
    kept: Num[Array, "..."]
    """What :func:`muscope.learning.replay.recall` gives of row t."""


class Targets(NamedTuple):
    """What the unrolled model is compared with (Figure 1).  K1 = K + 1."""

    observation: Num[Array, "..."]
    """s_t, the input of h; first as it was kept in the replay."""
    actions: Int[Array, "K"]
    """a_t..a_{t+K-1}."""
    reward: Float[Array, "K"]
    """r_{t+k}, the target of u_t^k."""
    reward_mask: Float[Array, "K"]
    value: Float[Array, "K1"]
    """n-step returns of s_t..s_{t+K}, the targets of v_t^k."""
    value_mask: Float[Array, "K1"]
    policy: Float[Array, "K1 A"]
    """Visit distributions at s_t..s_{t+K}, the targets of pi_t^k."""
    policy_mask: Float[Array, "K1"]
    """1 where the state is one of the episode, 0 past its end and beyond what is known."""
    later: Num[Array, "K ..."] | None = None
    """o_{t+1}..o_{t+K}, if an auxiliary loss reads them; what stands at a position that is masked
    means nothing."""


def window(replay: Replay, index: Int[Array, ""], length: int) -> Window:
    """The rows that follow the flat ``index`` in its lane, ``length`` of them."""
    size, lanes = replay.weight.shape
    time, lane = index // lanes, index % lanes
    times = (time + jnp.arange(length)) % size
    plain = replay.rows._replace(observation=None, age=None)  # type: ignore[arg-type]
    rows = jax.tree.map(lambda x: x.at[times, lane].get(mode="promise_in_bounds"), plain)
    newest = (replay.written - 1) % size
    boundary = (rows.last | (times == newest)) & ~rows.terminated
    return Window(rows, boundary, recall(replay, index))


def n_step_values(w: Window, unroll: int, n: int, discount: float) -> Float[Array, "K1"]:
    """v_target at positions 0..K of the window.

    sum_{k<n} gamma^k r_{t+k} + gamma^n v^MCTS_{t+n}, cut short by a termination (nothing
    follows) or a boundary (bootstrap from its v^MCTS).
    """
    count = unroll + 1
    value = jnp.zeros((count,))
    weight = jnp.ones((count,))
    for k in range(n):
        rows, boundary = jax.tree.map(lambda x, k=k: x[k : k + count], (w.rows, w.boundary))
        value += weight * jnp.where(boundary, rows.value, rows.reward)
        weight *= discount * (1.0 - (boundary | rows.terminated))
    return value + weight * w.rows.value[n : n + count]


def _before(flags: Bool[Array, "K1"]) -> Bool[Array, "K1"]:
    """Whether any flag is set strictly before each position."""
    counts = flags.astype(jnp.int32)
    return jnp.cumsum(counts) - counts > 0


def make(w: Window, unroll: int, n: int, discount: float) -> Targets:
    """All targets of one position.

    Args:
        w: ``unroll + n + 1`` rows.
        unroll: K.
        n: rewards before the bootstrap.
        discount: gamma.

    """
    count = unroll + 1
    head = jax.tree.map(lambda x: x[:count], w.rows)
    ended = w.boundary[:count] | head.terminated
    # Position k is known iff no boundary stands before it, real iff no end of either kind does.
    terminal = _before(head.terminated & ~_before(ended))
    unknown = _before(w.boundary[:count] & ~_before(ended))
    real = ~terminal & ~unknown
    value = jnp.where(real, n_step_values(w, unroll, n, discount), 0.0)
    reward_known = terminal | (real & ~w.boundary[:count])
    return Targets(
        observation=w.kept,
        actions=head.action[:unroll],
        reward=jnp.where(real, head.reward, 0.0)[:unroll],
        reward_mask=reward_known[:unroll].astype(jnp.float32),
        value=value,
        value_mask=(~unknown).astype(jnp.float32),
        policy=head.policy,
        policy_mask=real.astype(jnp.float32),
    )
