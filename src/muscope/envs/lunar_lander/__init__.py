"""Lunar Lander's rigid bodies in JAX: Box2D's step, part by part, and the MDP on top.

Every part equals Box2D by itself, and whole episodes agree with Box2D as often as Box2D with
itself after a change of 1e-7 (``benchmarks/lander_parity.py``).  It is not registered yet: it
is slow in large batches, and there are no presets that learn it.
"""
