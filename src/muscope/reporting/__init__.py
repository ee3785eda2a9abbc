"""The report stage: from tables to figures and one HTML page, and films of episodes."""

from muscope.reporting.film import film
from muscope.reporting.page import report
from muscope.reporting.scenes import scene_of

__all__ = ["film", "report", "scene_of"]
