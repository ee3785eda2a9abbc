"""The experiments: one module each, from checkpoints to a table, a picture and claims."""

from muscope.experiments.base import Experiment, Tables, chosen, every
from muscope.experiments.lab import Bench, Scope
from muscope.work import Work

__all__ = ["Bench", "Experiment", "Scope", "Tables", "Work", "chosen", "every"]
