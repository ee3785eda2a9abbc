"""From tables to figures and one self-contained page."""

from muscope.reporting.page import report

__all__ = ["report"]
