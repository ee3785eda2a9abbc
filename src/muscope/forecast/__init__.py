"""What a study will cost, before any of it is run: counts, seconds, memory, disk, jobs.

Counts come from settings alone (:mod:`muscope.work`).  Seconds are counts times rates, which are
measured here with tiny programs (:mod:`muscope.forecast.calibrate`) or estimated from the peaks of
a device (:mod:`muscope.forecast.devices`).
"""
