"""The report stage: from tables to figures and one HTML page, and films of episodes."""

from muscope.reporting.film import film as draw_film
from muscope.reporting.page import experiments_of, judge
from muscope.reporting.page import report as write_report

__all__ = ["draw_film", "experiments_of", "judge", "write_report"]
