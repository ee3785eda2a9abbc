"""The experiments: one module each, from checkpoints to a table, a picture and claims."""

from muscope.experiments.base import Experiment, Tables, chosen, every
from muscope.experiments.lab import Block, Scope

__all__ = ["Block", "Experiment", "Scope", "Tables", "chosen", "every"]
