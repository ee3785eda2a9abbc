"""Lunar Lander's rigid bodies in JAX: so far the parts of Box2D's step.

Free flight with jointed legs, contact manifolds, the contact solver and the time of impact
are here, each equal to Box2D by itself.  Not an environment yet: putting them together,
contact events and sleeping are missing, so it is not registered.
"""
