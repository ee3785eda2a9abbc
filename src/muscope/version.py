"""The package's version, in a module that imports nothing of the package."""

from importlib.metadata import version

__version__ = version("muscope")
