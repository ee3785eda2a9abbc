"""The experiments: one module each, from checkpoints to a table, a picture and claims."""

from muscope.experiments.base import Experiment, Tables, chosen, every
from muscope.experiments.lab import Block, Scope
from muscope.work import Work

__all__ = ["Block", "Experiment", "Scope", "Tables", "Work", "chosen", "every"]
