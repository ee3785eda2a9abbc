"""The twelve claims of He et al., each as one number per agent; positive supports the claim.

Where the paper's words leave a threshold open ("near zero", "does not diminish quickly"), the
text names ours.  "Trained" means every checkpoint after step 0.  Claims 9 to 11 read Figure
7's rollout leaves.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from muscope.claims.cells import Cells, MissingCell
from muscope.experiments.figure5 import is_least

NEAR_ZERO = 0.05
"""Claim 2: an error at horizon 1 below this share of the mean |reward| is near zero."""
MOST_ROWS = 0.5
"""Claim 7: the diagonal must be the minimum in more than this share of the rows."""
FAR = 0.5
"""Claim 9: less than this share of what the true model's search gains is far below it."""
FAILED = 0.1
"""Claim 9: less than this share of what the true model's search gains is a complete failure."""
KEPT_GAP = 0.5
"""Claim 11: a gap that keeps more than this share of its size has not diminished quickly."""


class Claim(NamedTuple):
    """One statement that a run can support or not."""

    name: str
    """Its number, with a letter where the paper's sentence makes several statements."""
    text: str
    statistic: str
    """What is computed per agent, in words; the claim says that it is positive."""
    table: str
    per_agent: Callable[[Cells], np.ndarray]
    """[P]"""
    environments: tuple[str, ...] = ()
    """Where the paper says so; empty for everywhere."""

    def is_about(self, environment: str) -> bool:
        """Whether the paper says this of an environment, or of every one."""
        return not self.environments or environment in self.environments


def _mcts_less_prior(cells: Cells) -> np.ndarray:
    mean = cells.mean("return", step=cells.positive(), policy=["mcts", "prior"])
    return (mean[..., 0] - mean[..., 1]).mean(axis=1)


def _short_horizon(cells: Cells) -> np.ndarray:
    first = {"horizon": 1}
    error = cells.mean("error", first, step=cells.positive())
    size = cells.mean("reward_size", first, step=cells.positive())
    with np.errstate(divide="ignore", invalid="ignore"):  # No rewards at all: undefined.
        return NEAR_ZERO - (error / size).mean(axis=1)


def _growth(cells: Cells) -> np.ndarray:
    horizons = cells.positive("horizon", least=2)
    error = cells.mean("error", step=cells.positive(), horizon=[horizons[0], horizons[-1]])
    return (error[..., 1] - error[..., 0]).mean(axis=1)


def _fall(cells: Cells) -> np.ndarray:
    steps = cells.positive(least=2)
    late = np.array(steps) > 0.75 * cells.steps
    if late.all() or not late.any():
        raise MissingCell(f"{cells.name} has no checkpoints on both sides of 3/4 of training.")
    error = cells.mean("error", {"horizon": cells.values("horizon")[-1]}, step=steps)
    return error[:, ~late].mean(axis=1) - error[:, late].mean(axis=1)


def _unlikely_is_wrong(cells: Cells) -> np.ndarray:
    return -cells.mean("spearman", step=cells.positive()).mean(axis=1)


def _more_so(cells: Cells) -> np.ndarray:
    correlation = cells.mean("spearman", step=cells.positive(least=2))
    half = correlation.shape[1] // 2
    return correlation[:, :half].mean(axis=1) - correlation[:, half:].mean(axis=1)


def _diagonal(cells: Cells) -> np.ndarray:
    steps = cells.positive("model_step", least=2)
    error = cells.mean("error", model_step=steps, policy_step=steps)
    return is_least(error).mean(axis=1) - MOST_ROWS


def _early_on_late(cells: Cells) -> np.ndarray:
    steps = cells.positive("model_step", least=2)
    error = cells.mean("error", {"model_step": steps[0]}, policy_step=[steps[0], steps[-1]])
    return error[:, 1] - error[:, 0]


_ROLLOUT = {"leaf": "rollout"}


def _returns(cells: Cells, model: str, prior: str) -> np.ndarray:
    """[P, panels, budgets]"""
    budgets = cells.positive("simulations", least=2)
    where = {**_ROLLOUT, "model": model, "prior": prior}
    return cells.mean("return", where, step=cells.values("step"), simulations=budgets)


def _free_search_helps(cells: Cells) -> np.ndarray:
    found = _returns(cells, "learned", "uniform")
    return found[:, -1, -1] - found[:, -1, 0]


def _free_search_lags(cells: Cells) -> np.ndarray:
    true, learned = (_returns(cells, model, "uniform") for model in ("true", "learned"))
    # Gains, because returns may be negative; one simulation is a random choice in any model.
    least = true[..., 0]
    return (FAR * (true[..., -1] - least) - (learned[..., -1] - least)).mean(axis=1)


def _free_search_fails(cells: Cells) -> np.ndarray:
    true, learned = (_returns(cells, model, "uniform")[:, -1] for model in ("true", "learned"))
    least = true[:, 0]
    return FAILED * (true[:, -1] - least) - (learned[:, -1] - least)


def _prior_return(cells: Cells) -> np.ndarray:
    """The better of the sampled and the greedy prior: planners act greedily too."""
    found = cells.mean("return", step=cells.values("step"), prior=["sampled", "greedy"])
    return found.max(axis=2)


def _learned_improves(cells: Cells) -> np.ndarray:
    return (_returns(cells, "learned", "policy")[..., -1] - _prior_return(cells)).mean(axis=1)


def _true_improves_more(cells: Cells) -> np.ndarray:
    true, learned = (_returns(cells, model, "policy") for model in ("true", "learned"))
    return (true - learned)[..., -1].mean(axis=1)


def _gap(cells: Cells, model: str) -> np.ndarray:
    return _returns(cells, model, "policy") - _returns(cells, model, "uniform")


def _gap_is_larger(cells: Cells) -> np.ndarray:
    return (_gap(cells, "learned") - _gap(cells, "true")).mean(axis=(1, 2))


def _gap_stays(cells: Cells) -> np.ndarray:
    gap = _gap(cells, "learned").mean(axis=1)
    return gap[:, -1] - KEPT_GAP * gap[:, 0]


def _prior_lowers(measure: str) -> Callable[[Cells], np.ndarray]:
    def per_agent(cells: Cells) -> np.ndarray:
        last = {"simulations": cells.values("simulations")[-1]}
        mean = cells.mean(measure, last, step=cells.values("step"), prior=["policy", "uniform"])
        return (mean[..., 1] - mean[..., 0]).mean(axis=1)

    return per_agent


CLAIMS: tuple[Claim, ...] = (
    Claim(
        "1",
        "MCTS returns more than the policy prior through training.",
        "return of MCTS less the prior's, mean over trained checkpoints",
        "figure2",
        _mcts_less_prior,
    ),
    Claim(
        "2",
        "Value errors at short horizons are near zero.",
        f"{NEAR_ZERO:g} less the error at h = 1 as a share of the mean |reward|, mean over trained "
        "checkpoints",
        "figure3",
        _short_horizon,
    ),
    Claim(
        "3",
        "Value errors grow with the horizon.",
        "error at the longest horizon less that at h = 1, mean over trained checkpoints",
        "figure3",
        _growth,
    ),
    Claim(
        "4",
        "Value errors fall towards the end of training.",
        "error at the longest horizon, mean over trained checkpoints up to three quarters of "
        "training, less the mean after",
        "figure3",
        _fall,
    ),
    Claim(
        "5",
        "The less likely the behaviour policy is to take a sequence, the larger its error.",
        "minus Spearman's correlation of probability and error, mean over states and trained "
        "checkpoints",
        "figure4_states",
        _unlikely_is_wrong,
    ),
    Claim(
        "6",
        "... and more so with more training.",
        "Spearman's correlation in the first half of the trained checkpoints less the second's",
        "figure4_states",
        _more_so,
    ),
    Claim(
        "7",
        "Each model is most accurate on the policy of its own step.",
        f"share of trained rows whose minimum is the diagonal, less {MOST_ROWS:g}",
        "figure5",
        _diagonal,
    ),
    Claim(
        "8",
        "Early models evaluate later policies badly.",
        "error of the first trained model on the last policy less that on its own",
        "figure5",
        _early_on_late,
    ),
    Claim(
        "9a",
        "Free search in the learned model finds some support after training.",
        "return with the most simulations less that with the fewest: learned model, uniform prior, "
        "last panel",
        "figure7",
        _free_search_helps,
        ("cart-pole",),
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
        "... far below free search in the true model.",
        f"{FAR:g} of the true model's gain in return less the learned one's: uniform prior, most "
        "simulations against the true model's fewest, mean over panels",
        "figure7",
        _free_search_lags,
    ),
    Claim(
        "10a",
        "With the prior, planning in the learned model improves on the prior alone.",
        "return of planning less the better of the sampled and the greedy prior: most simulations, "
        "mean over panels",
        "figure7",
        _learned_improves,
    ),
    Claim(
        "10b",
        "... less than planning in the true model does.",
        "return with the true model less that with the learned one: policy prior, most "
        "simulations, mean over panels",
        "figure7",
        _true_improves_more,
    ),
    Claim(
        "11a",
        "The gap between guided and free search is larger in the learned model.",
        "return with the policy prior less that with the uniform one, learned less true model, "
        "mean over panels and simulations",
        "figure7",
        _gap_is_larger,
    ),
    Claim(
        "11b",
        "... and does not diminish quickly with simulations.",
        f"the learned model's gap with the most simulations less {KEPT_GAP:g} of that with the "
        "fewest, mean over panels",
        "figure7",
        _gap_stays,
    ),
    Claim(
        "12a",
        "The policy prior lowers the value error of the simulated trajectories.",
        "error under the uniform prior less that under the policy prior, all simulations",
        "figure6",
        _prior_lowers("error"),
    ),
    Claim(
        "12b",
        "... the total variation from the prior,",
        "TV under the uniform prior less that under the policy prior",
        "figure6",
        _prior_lowers("tv"),
    ),
    Claim(
        "12c",
        "... and the KL divergence from it.",
        "KL under the uniform prior less that under the policy prior",
        "figure6",
        _prior_lowers("kl"),
    ),
)
