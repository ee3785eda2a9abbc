"""Lunar Lander's rigid bodies in JAX: so far its free flight.

Not an environment yet: contacts with the ground, sleeping and the time-of-impact step are
missing, so it is not registered.  What is here equals Box2D until the first touch.
"""
