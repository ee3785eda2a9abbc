"""The paper's claims as statistics over agents, each with an interval and a verdict."""

from muscope.claims.paper import CLAIMS, Claim
from muscope.claims.verdict import SCHEMA, Interval, as_text, interval, judge, judge_run, verdict

__all__ = [
    "CLAIMS",
    "SCHEMA",
    "Claim",
    "Interval",
    "as_text",
    "interval",
    "judge",
    "judge_run",
    "verdict",
]
