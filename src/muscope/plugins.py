"""Users' own objects by name: ``my_file.py:Name`` or ``package.module:Name``."""

from __future__ import annotations

import importlib
import sys
import sysconfig
import traceback
from pathlib import Path
from typing import Any

from muscope.errors import ConfigError, nearest


def is_source(name: str) -> bool:
    """Whether a name has the form of a user's object."""
    module, colon, attribute = name.rpartition(":")
    return bool(colon and module and attribute.isidentifier())


def load(name: str) -> Any:
    """The object that a name stands for.

    A file is imported as a module of its own name, its folder in front of the search path, so
    that its functions and classes can be sent to worker processes.

    Raises:
        ConfigError: there is no such file, module or object, or importing it fails; the message
            has the error.

    """
    module_name, _, attribute = name.rpartition(":")
    module = _module(module_name)
    if not hasattr(module, attribute):
        public = [n for n in vars(module) if not n.startswith("_")]
        raise ConfigError(f"{module_name} has no '{attribute}'.{nearest(attribute, public)}")
    return getattr(module, attribute)


def _module(name: str) -> Any:
    path = Path(name)
    if path.suffix != ".py":
        return _imported(name, name)
    path = path.resolve()
    if not path.is_file():
        raise ConfigError(f"there is no file {name}; give the path of a Python file.")
    if not path.stem.isidentifier():
        raise ConfigError(f"{path.name} cannot be imported; rename it like a Python name.")
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    module = _imported(path.stem, name)
    origin = getattr(module, "__file__", None)
    if origin is None or Path(origin).resolve() != path:
        raise ConfigError(f"another module is called '{path.stem}' ({origin}); rename {name}.")
    return module


def _imported(module: str, name: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name == module.split(".")[0]:
            raise ConfigError(f"there is no module '{name}'; is its package installed?") from error
        raise ConfigError(f"importing {name} failed: {error}") from error
    except Exception as error:
        raise ConfigError(f"importing {name} failed: {told(error)}") from error


def file_of(name: str) -> str:
    """The file that a name points into; '' if it names no file."""
    module, _, _ = name.rpartition(":")
    return module if module.endswith(".py") else ""


def absolute(name: str) -> str:
    """The same object's name from any working directory."""
    module, _, attribute = name.rpartition(":")
    return f"{Path(module).resolve()}:{attribute}" if module.endswith(".py") else name


def told(error: BaseException) -> str:
    """An error in a user's code as one line: what it is, and the user's line that it passed last.

    An error that passed none, for instance of an installed package, is told without a place.
    """
    lines = str(error).strip().splitlines() or [""]
    reason = f"{type(error).__name__}: {lines[0]}".rstrip(": ")
    frames = [f for f in traceback.extract_tb(error.__traceback__) if _is_users(f.filename)]
    return f"{reason} ({frames[-1].filename}:{frames[-1].lineno})" if frames else reason


PACKAGE = Path(__file__).resolve().parent
LIBRARY = Path(sysconfig.get_paths()["stdlib"]).resolve()


def _is_users(file: str) -> bool:
    """Whether a file is neither muscope's nor of an installed package or Python itself."""
    path = Path(file).resolve()
    installed = "site-packages" in path.parts or path.is_relative_to(LIBRARY)
    return path.is_file() and not installed and not path.is_relative_to(PACKAGE)
