"""Lunar Lander's rigid bodies in JAX: so far free flight and contact manifolds.

Not an environment yet: the contact solver, sleeping and the time-of-impact step are missing,
so it is not registered.  What is here equals Box2D: flight until the first touch, and where
a body touches an edge of the ground.
"""
