"""Claims as statistics over agents, each with an interval and a verdict."""

from muscope.claims.cells import Cells, MissingCell
from muscope.claims.claim import Claim
from muscope.claims.verdict import SCHEMA, Interval, as_text, interval, judge, judge_tables, verdict

__all__ = [
    "SCHEMA",
    "Cells",
    "Claim",
    "Interval",
    "MissingCell",
    "as_text",
    "interval",
    "judge",
    "judge_tables",
    "verdict",
]
