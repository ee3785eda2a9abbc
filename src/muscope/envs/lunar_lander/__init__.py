"""Lunar Lander's rigid bodies in JAX: so far the parts of Box2D's step.

Free flight with jointed legs, contact manifolds and the contact solver are here, each equal
to Box2D by itself.  Not an environment yet: putting them together, contact events, sleeping
and the time-of-impact step are missing, so it is not registered.
"""
