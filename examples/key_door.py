"""An environment of one's own: a room in which a key opens a door.

muscope study examples/key_door.py:KeyDoor
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from muscope.envs import Spec, Transition

SIZE = 5
MOVES = jnp.array([[0, 1], [1, 0], [0, -1], [-1, 0]])  # up, right, down, left
DOOR = jnp.array([SIZE - 1, SIZE - 1])


class Room(NamedTuple):
    """Everything that the future depends on."""

    place: Int[Array, "2"]
    key: Int[Array, "2"]
    has_key: Bool[Array, ""]
    over: Bool[Array, ""]


class KeyDoor:
    """A step costs 0.1, the key pays 1, the door pays 5 and ends the episode if one has the key."""

    spec = Spec("key-door", num_actions=4, observation_shape=(6,), time_limit=50)
    # Settings where the defaults do not fit; every other has its default.
    presets = {  # noqa: RUF012
        "quick": {
            "train": {"agents": 2, "steps": 2_000, "checkpoints": [0, 500, 1_000]},
            "experiments": {"figure6": {"checkpoints": [1_000]}},
        }
    }

    def reset(self, key):
        place, where = jax.random.randint(key, (2, 2), 0, SIZE)
        return Room(place, where, jnp.array(False), jnp.array(False))

    def step(self, state, action):
        place = jnp.clip(state.place + MOVES[action], 0, SIZE - 1)
        at_key = ~state.has_key & jnp.all(place == state.key)
        has_key = state.has_key | at_key
        opens = has_key & jnp.all(place == DOOR)
        moved = Room(place, state.key, has_key, opens)
        # Once over it stays over, and pays nothing.
        moved = jax.tree.map(lambda old, new: jnp.where(state.over, old, new), state, moved)
        reward = jnp.where(state.over, 0.0, -0.1 + 1.0 * at_key + 5.0 * opens)
        return Transition(moved, reward, moved.over)

    def observe(self, state):
        places = jnp.concatenate([state.place, state.key]) / (SIZE - 1)
        return jnp.concatenate([places, jnp.stack([state.has_key, state.over])]).astype(jnp.float32)
