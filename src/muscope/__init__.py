"""muscope: a microscope for the models that MuZero learns.

Train populations of MuZero agents, keep checkpoints through training, and ask each
learned model how far it is value equivalent and how much planning with it helps, after
He, Moerland, de Vries and Oliehoek, *What Model Does MuZero Learn?*
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from muscope.comparing import compare
    from muscope.config import (
        Config,
        EnvironmentConfig,
        EvaluateConfig,
        SearchConfig,
        from_dict,
        to_dict,
    )
    from muscope.errors import CheckpointError, ConfigError, MuscopeError, RunError
    from muscope.examination import examine
    from muscope.looking import look, look_at_chosen
    from muscope.pooling import pool
    from muscope.presets import preset
    from muscope.reporting.notebook import chart, frame
    from muscope.stages import (
        evaluate,
        film,
        judge,
        merge,
        open_run,
        plan,
        report,
        tensorboard,
        train,
    )
    from muscope.studies import study
    from muscope.subjects import Subject, subject
    from muscope.sweeps import sweep
    from muscope.trained import TrainedAgent
    from muscope.version import __version__

_HOMES = {
    "CheckpointError": "errors",
    "Config": "config",
    "ConfigError": "errors",
    "EnvironmentConfig": "config",
    "EvaluateConfig": "config",
    "MuscopeError": "errors",
    "RunError": "errors",
    "SearchConfig": "config",
    "Subject": "subjects",
    "TrainedAgent": "trained",
    "__version__": "version",
    "chart": "reporting.notebook",
    "compare": "comparing",
    "evaluate": "stages",
    "examine": "examination",
    "film": "stages",
    "frame": "reporting.notebook",
    "from_dict": "config",
    "judge": "stages",
    "look": "looking",
    "look_at_chosen": "looking",
    "merge": "stages",
    "open_run": "stages",
    "plan": "stages",
    "pool": "pooling",
    "preset": "presets",
    "report": "stages",
    "study": "studies",
    "subject": "subjects",
    "sweep": "sweeps",
    "tensorboard": "stages",
    "to_dict": "config",
    "train": "stages",
}
"""Where each public name lives; it is imported when it is first asked for, so that reading a
config imports no JAX."""

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'muscope' has no attribute '{name}'")
    value = getattr(importlib.import_module(f"muscope.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
