"""Runs held against each other: curves, differences with intervals, claims side by side."""

from muscope.comparison.differences import CORRECTED, DIFFERENCES, between
from muscope.comparison.runs import Compared, beside, refuse
from muscope.comparison.values import VALUES, Curve, curves, table_of

__all__ = [
    "CORRECTED",
    "DIFFERENCES",
    "VALUES",
    "Compared",
    "Curve",
    "beside",
    "between",
    "curves",
    "refuse",
    "table_of",
]
