"""The report stage: from tables to figures and one HTML page, and films of episodes."""

from muscope.reporting.film import film as draw_film
from muscope.reporting.page import experiments_of
from muscope.reporting.page import judge as judge_folder
from muscope.reporting.page import report as write_report

__all__ = ["draw_film", "experiments_of", "judge_folder", "write_report"]
