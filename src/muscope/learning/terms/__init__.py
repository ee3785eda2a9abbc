"""Auxiliary losses: named terms beside MuZero's own, one module each."""

from muscope.agent.base import flat
from muscope.learning.terms.base import Term, TermSettings, Unrolled, form_of_latent

__all__ = ["Term", "TermSettings", "Unrolled", "flat", "form_of_latent"]
