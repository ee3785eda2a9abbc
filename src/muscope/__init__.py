"""muscope: a microscope for the models that MuZero learns.

Train populations of MuZero agents, keep checkpoints through training, and ask each
learned model how far it is value equivalent and how much planning with it helps, after
He, Moerland, de Vries and Oliehoek, *What Model Does MuZero Learn?*
"""

from importlib.metadata import version as _version

__version__ = _version("muscope")

from muscope.config import Config, EnvironmentConfig, from_dict, to_dict
from muscope.errors import CheckpointError, ConfigError, MuscopeError, RunError
from muscope.presets import preset
from muscope.stages import claims, evaluate, film, open_run, report, study, train
from muscope.trained import TrainedAgent

__all__ = [
    "CheckpointError",
    "Config",
    "ConfigError",
    "EnvironmentConfig",
    "MuscopeError",
    "RunError",
    "TrainedAgent",
    "claims",
    "evaluate",
    "film",
    "from_dict",
    "open_run",
    "preset",
    "report",
    "study",
    "to_dict",
    "train",
]
