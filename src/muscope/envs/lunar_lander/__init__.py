"""Deterministic Lunar Lander in JAX: Box2D's rigid bodies, and Gymnasium's MDP on top.

``bodies``, ``joints``, ``collide``, ``contacts``, ``impact`` and ``continuous`` are Box2D 2.3 part
by part, ``world`` is one world step of it, ``snapshot`` the MDP, ``lanes`` what makes many at
once cheap.  ``benchmarks/lander_parity.py`` has the differences from Box2D.
"""

from muscope.envs.lunar_lander.environment import LunarLander

__all__ = ["LunarLander"]
