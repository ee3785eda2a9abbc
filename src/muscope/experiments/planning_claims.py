"""What the paper says of Figure 7: claims 9 to 11, and their former readings.

Returns are of rollout leaves, as the paper's are.  One simulation is no search: it takes a random
action, or the prior's; current readings that compare budgets begin above it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from muscope.claims import Cells, Claim, Noted, below_ceiling, ceiling

POLICIES = ("model", "prior", "leaf", "simulations")
"""Columns that tell policies apart."""
FAILED = 0.1
"""Claim 9a: less than this share of what the true model's search gains is a complete failure."""
FAR = 0.5
"""Former claim 9b: less than this share of what the true model's search gains is far below it."""
KEPT_GAP = 0.5
"""Former claim 11b: a gap that keeps more than this share has not diminished quickly."""
NOT_BREAKOUT = ("cart-pole", "lunar-lander")
"""Where the paper says what it does not say of Breakout."""


def _returns(cells: Cells, model: str, prior: str, budgets: Sequence[int]) -> np.ndarray:
    """[P, panels, budgets]"""
    where = {"leaf": "rollout", "model": model, "prior": prior}
    return cells.mean("return", where, step=cells.values("step"), simulations=budgets)


def _from_one(cells: Cells, model: str, prior: str) -> np.ndarray:
    """Returns of all budgets, one simulation among them."""
    return _returns(cells, model, prior, cells.positive("simulations", least=2))


def _searched(cells: Cells, model: str, prior: str, least: int = 1) -> np.ndarray:
    """Returns of the budgets above one simulation."""
    return _returns(cells, model, prior, cells.positive("simulations", least, above=1))


def _both(cells: Cells, prior: str) -> tuple[np.ndarray, np.ndarray]:
    """With the true and with the learned model."""
    true, learned = (_searched(cells, model, prior) for model in ("true", "learned"))
    return true, learned


def _below(cells: Cells, difference: np.ndarray, *compared: np.ndarray) -> Noted:
    """Mean of a difference [P, panels] over the panels that are not at the ceiling."""
    return below_ceiling(cells, cells.values("step"), POLICIES, difference, *compared)


def _with_share(
    cells: Cells, noted: Noted, learned: np.ndarray, true: np.ndarray, base: np.ndarray, words: str
) -> Noted:
    """With a note that says which share of the true model's gain over a base the learned model
    reaches, at the panels that the comparison is of; all [P, panels].
    """
    enters = ceiling.is_below(cells, POLICIES, true[..., None], learned[..., None])
    gain = (true - base)[:, enters].mean()
    if not gain > 0:
        return noted
    share = 100 * (learned - base)[:, enters].mean() / gain
    note = f"{words} gains {share:.0f} % of what it gains in the true one"
    return noted._replace(note="; ".join([note, *[noted.note] * bool(noted.note)]))


def _free_search_helps(cells: Cells) -> np.ndarray:
    learned = _from_one(cells, "learned", "uniform")
    return learned[:, -1, -1] - learned[:, -1, 0]


def _free_search_fails(cells: Cells) -> np.ndarray:
    true, learned = (_from_one(cells, model, "uniform")[:, -1] for model in ("true", "learned"))
    least = true[:, 0]
    return FAILED * (true[:, -1] - least) - (learned[:, -1] - least)


def _free_search_lags(cells: Cells) -> Noted:
    true, learned = (most[..., -1] for most in _both(cells, "uniform"))
    noted = _below(cells, true - learned, true, learned)
    fewest = _returns(cells, "true", "uniform", cells.positive("simulations")[:1])[..., 0]
    return _with_share(cells, noted, learned, true, fewest, "free search in the learned model")


def _free_search_is_slow(cells: Cells) -> Noted:
    true, learned = _both(cells, "uniform")
    return _below(cells, (true - learned).mean(axis=2), true, learned)


def _sampled_prior(cells: Cells) -> np.ndarray:
    """The paper's policy prior, a ~ pi_theta, without planning, [P, panels]."""
    return cells.mean("return", {"prior": "sampled"}, step=cells.values("step"))


def _learned_improves(cells: Cells) -> Noted:
    planned, alone = _searched(cells, "learned", "policy")[..., -1], _sampled_prior(cells)
    return _below(cells, planned - alone, planned, alone)


def _learned_does_not_pass(cells: Cells) -> Noted:
    planned, alone = _searched(cells, "learned", "policy")[..., -1], _sampled_prior(cells)
    return _below(cells, alone - planned, planned, alone)


def _more_simulations_help(cells: Cells) -> Noted:
    planned = _searched(cells, "learned", "policy", least=2)[..., [0, -1]]
    return _below(cells, planned[..., 1] - planned[..., 0], planned)


def _true_improves_more(cells: Cells) -> Noted:
    true, learned = (most[..., -1] for most in _both(cells, "policy"))
    noted, alone = _below(cells, true - learned, true, learned), _sampled_prior(cells)
    words = "over the sampled prior, planning in the learned model"
    return _with_share(cells, noted, learned, true, alone, words)


def _four(cells: Cells, least: int = 1) -> dict[tuple[str, str], np.ndarray]:
    """Returns of all four planners."""
    return {
        (model, prior): _searched(cells, model, prior, least)
        for model in ("learned", "true")
        for prior in ("policy", "uniform")
    }


def _gaps(four: dict[tuple[str, str], np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Guided less free search, in the learned and in the true model."""
    learned, true = (
        four[model, "policy"] - four[model, "uniform"] for model in ("learned", "true")
    )
    return learned, true


def _gap_is_larger(cells: Cells) -> Noted:
    four = _four(cells)
    learned, true = _gaps(four)
    return _below(cells, (learned - true).mean(axis=2), *four.values())


def _gap_stays(cells: Cells) -> Noted:
    four = _four(cells, least=2)
    learned, true = (gap[..., 0] - gap[..., -1] for gap in _gaps(four))
    return _below(cells, true - learned, *four.values())


def _stays_far_below(cells: Cells) -> np.ndarray:
    true, learned = (_from_one(cells, model, "uniform") for model in ("true", "learned"))
    least = true[..., 0]
    return (FAR * (true[..., -1] - least) - (learned[..., -1] - least)).mean(axis=1)


def _passes_either_prior(cells: Cells) -> np.ndarray:
    alone = cells.mean("return", step=cells.values("step"), prior=["sampled", "greedy"])
    planned = _from_one(cells, "learned", "policy")[..., -1]
    return (planned - alone.max(axis=2)).mean(axis=1)


def _true_is_better(cells: Cells) -> np.ndarray:
    true, learned = (_from_one(cells, model, "policy") for model in ("true", "learned"))
    return (true - learned)[..., -1].mean(axis=1)


def _gap_from_one(cells: Cells, model: str) -> np.ndarray:
    return _from_one(cells, model, "policy") - _from_one(cells, model, "uniform")


def _gap_is_larger_from_one(cells: Cells) -> np.ndarray:
    return (_gap_from_one(cells, "learned") - _gap_from_one(cells, "true")).mean(axis=(1, 2))


def _gap_keeps_half(cells: Cells) -> np.ndarray:
    gap = _gap_from_one(cells, "learned").mean(axis=1)
    return gap[:, -1] - KEPT_GAP * gap[:, 0]


CLAIMS = (
    Claim(
        "9a",
        "Free search in the learned model finds some support after training.",
        "return with the most simulations less that with the fewest: learned model, uniform prior, "
        "last panel",
        "figure7",
        _free_search_helps,
        ("cart-pole",),
        elsewhere=True,
    ),
    Claim(
        "9a",
        "Free search in the learned model fails completely.",
        f"{FAILED:g} of the true model's gain in return less the learned one's: uniform prior, "
        "most simulations against the true model's fewest, last panel",
        "figure7",
        _free_search_fails,
        ("lunar-lander", "breakout"),
    ),
    Claim(
        "9b",
        "Free search in the learned model is worse than in the true model.",
        "return with the true model less that with the learned one: uniform prior, most "
        f"simulations, {ceiling.WORDS}",
        "figure7",
        _free_search_lags,
    ),
    Claim(
        "9b",
        "Free search in the learned model stays far below that in the true model.",
        f"{FAR:g} of the true model's gain in return less the learned one's: uniform prior, most "
        "simulations against the true model's fewest, mean over all panels",
        "figure7",
        _stays_far_below,
        former=True,
    ),
    Claim(
        "9c",
        "Free search in the learned model plans less efficiently than in the true model.",
        "return with the true model less that with the learned one: uniform prior, mean over all "
        f"budgets above one simulation, {ceiling.WORDS}",
        "figure7",
        _free_search_is_slow,
    ),
    Claim(
        "10a",
        "With the prior, planning in the learned model improves on the prior alone.",
        f"return of planning less the sampled prior's: most simulations, {ceiling.WORDS}",
        "figure7",
        _learned_improves,
        NOT_BREAKOUT,
        elsewhere=True,
    ),
    Claim(
        "10a",
        "With the prior, planning in the learned model improves with more simulations.",
        "return of planning with the most simulations less that with the fewest above one, "
        f"{ceiling.WORDS}",
        "figure7",
        _more_simulations_help,
        ("breakout",),
    ),
    Claim(
        "10a",
        "With the prior, planning in the learned model improves on the prior alone.",
        "return of planning less the better of the sampled and the greedy prior: most simulations, "
        "mean over all panels",
        "figure7",
        _passes_either_prior,
        former=True,
    ),
    Claim(
        "10b",
        "With the prior, planning in the learned model gains less than in the true model.",
        "return with the true model less that with the learned one: policy prior, most "
        f"simulations, {ceiling.WORDS}",
        "figure7",
        _true_improves_more,
        NOT_BREAKOUT,
        elsewhere=True,
    ),
    Claim(
        "10b",
        "With the prior, planning in the learned model gains less than in the true model.",
        "return with the true model less that with the learned one: policy prior, most "
        "simulations, mean over all panels",
        "figure7",
        _true_is_better,
        former=True,
    ),
    Claim(
        "10c",
        "With the prior, planning in the learned model does not pass the prior alone.",
        f"return of the sampled prior less that of planning: most simulations, {ceiling.WORDS}",
        "figure7",
        _learned_does_not_pass,
        ("breakout",),
    ),
    Claim(
        "11a",
        "The gap between guided and free search is larger in the learned model.",
        "return with the policy prior less that with the uniform one, learned less true model: "
        f"mean over budgets above one simulation, {ceiling.WORDS}",
        "figure7",
        _gap_is_larger,
        NOT_BREAKOUT,
        elsewhere=True,
    ),
    Claim(
        "11a",
        "The gap between guided and free search is larger in the learned model.",
        "return with the policy prior less that with the uniform one, learned less true model, "
        "mean over all panels and simulations",
        "figure7",
        _gap_is_larger_from_one,
        former=True,
    ),
    Claim(
        "11b",
        "The gap between guided and free search shrinks faster in the true model.",
        "by how much the gap falls from the fewest simulations above one to the most, true less "
        f"learned model, {ceiling.WORDS}",
        "figure7",
        _gap_stays,
    ),
    Claim(
        "11b",
        "The learned model's gap between guided and free search does not shrink quickly.",
        f"the learned model's gap with the most simulations less {KEPT_GAP:g} of that with the "
        "fewest, mean over all panels",
        "figure7",
        _gap_keeps_half,
        former=True,
    ),
)
"""In the paper's order."""
