"""Claims as statistics over agents, each with an interval and a verdict."""

from muscope.claims.ceiling import below_ceiling
from muscope.claims.cells import AtCeiling, Cells, MissingCell
from muscope.claims.claim import Claim, Noted
from muscope.claims.interval import ALPHA, Interval, difference, holm, interval
from muscope.claims.verdict import (
    CORRECTED,
    FEWEST,
    SCHEMA,
    UNJUDGED,
    as_text,
    correct,
    judge,
    judge_tables,
    verdict,
)

__all__ = [
    "ALPHA",
    "CORRECTED",
    "FEWEST",
    "SCHEMA",
    "UNJUDGED",
    "AtCeiling",
    "Cells",
    "Claim",
    "Interval",
    "MissingCell",
    "Noted",
    "as_text",
    "below_ceiling",
    "correct",
    "difference",
    "holm",
    "interval",
    "judge",
    "judge_tables",
    "verdict",
]
