"""What each claim reads, on tables small enough to compute by hand."""

from pathlib import Path

import numpy as np
import pytest
from claims_by_hand import CART_POLE, PAPERS_CLAIMS, cells, named, rows

from muscope.claims import judge
from muscope.experiments import planning_claims


def estimates(made, names, claims=CART_POLE):
    return {name: judge(claims[name], made, 0)["estimate"] for name in names}


def told(made, name, claims=CART_POLE):
    row = judge(claims[name], made, 0)
    return row["verdict"], row["note"]


def figure2(leads):
    """MCTS less the prior, and half of it less the tempered prior, on a prior of 50; a policy
    that nobody compares spans the table from 0 to 200.
    """
    columns = rows(step=list(leads), policy=["mcts", "prior", "prior_tempered", "best", "worst"])
    lead = np.array([leads[int(step)] for step in columns["step"]])
    share = {"mcts": 1.0, "prior": 0.0, "prior_tempered": 0.5, "best": 0.0, "worst": 0.0}
    base = {"best": 200.0, "worst": 0.0}
    columns["return"] = (
        np.array([base.get(policy, 50.0) for policy in columns["policy"]])
        + lead * np.array([share[policy] for policy in columns["policy"]])
        + (columns["agent"] - 1.0) * (columns["policy"] == "mcts")
    )
    return cells(columns)


def test_claim_1_is_the_mean_difference_over_trained_checkpoints():
    made = figure2({0: -40.0, 500: 10.0, 1000: 30.0})
    row = judge(CART_POLE["1"], made, 0)
    assert row["estimate"] == pytest.approx(20.0)
    assert row["verdict"] == "holds"
    assert row["low"] < 19.0 < 21.0 < row["high"]
    assert estimates(made, ["1b", "1 former"]) == pytest.approx({"1b": 10.0, "1 former": 20.0})


def test_claim_1_leaves_out_checkpoints_at_the_ceiling():
    """Returns of 192 and 196 of 0 to 200 cannot be told apart; 1 former told them apart."""
    columns = rows(step=[0, 500, 1000], policy=["mcts", "prior"])
    value = {(0, "mcts"): 0, (0, "prior"): 10, (500, "mcts"): 100, (500, "prior"): 60}
    value |= {(1000, "mcts"): 200, (1000, "prior"): 196}
    places = zip(columns["step"], columns["policy"], strict=True)
    columns["return"] = np.array([float(value[int(step), p]) for step, p in places])
    made = cells(columns)
    assert estimates(made, ["1", "1 former"]) == pytest.approx({"1": 40.0, "1 former": 22.0})
    assert told(made, "1") == ("holds", "at the ceiling and left out: checkpoint 1,000")
    late = {name: x[columns["step"] != 500] for name, x in columns.items()}
    assert told(cells(late), "1")[0] == "cannot tell"
    assert told(cells(late), "1 former")[0] == "holds"
    assert np.isnan(judge(CART_POLE["1"], cells(late), 0)["estimate"])


def figure3(error, steps=(0, 500, 1500, 2000), horizons=(1, 5, 10), squared=0.25):
    columns = rows(step=list(steps), horizon=list(horizons))
    columns["error"] = error(columns) + 0.0 * columns["step"]
    columns["squared_error"] = np.where(columns["horizon"] == horizons[-1], squared, 9.0)
    columns["reward_size"] = np.ones(len(columns["step"]))
    return cells(columns)


def test_claims_2_to_4_on_known_errors():
    # 0.01 at h = 1, 0.02 at 5; at 10: 0.1, 0.07 and 0.04 at steps 500, 1500, 2000; 0 is absurd.
    def error(c):
        at_ten = np.select([c["step"] == 2000, c["step"] == 1500], [0.04, 0.07], 0.1)
        trained = np.select([c["horizon"] == 1, c["horizon"] == 5], [0.01, 0.02], at_ten)
        return np.where(c["step"] == 0, 9.0, trained)

    made = figure3(error)
    expected = {"2": 0.04, "3": 0.01, "3 former": 0.06, "3b": 0.25, "4a": 0.045, "4b": 0.03}
    assert estimates(made, expected) == pytest.approx(expected)
    assert {told(made, name)[0] for name in expected} == {"holds"}
    flat = figure3(lambda c: np.full(len(c["step"]), 0.2), squared=0.0)
    names = ("2", "3", "3b", "4a", "4b")
    assert [told(flat, name)[0] for name in names] == ["does not hold", *["inconclusive"] * 4]


def test_claim_2_leaves_out_checkpoints_without_a_reward():
    """As where rewards are rare: 0.2 of 4 at one checkpoint, nothing to compare at another."""
    columns = rows(step=[0, 500, 2000], horizon=[1, 5])
    early = columns["step"] == 500
    columns["error"] = np.where(early, 0.0, 0.2)
    columns["reward_size"] = np.where(early, 0.0, 4.0)
    made = cells(columns)
    assert judge(CART_POLE["2"], made, 0)["estimate"] == pytest.approx(0.0)
    words = "left out: 3 of 6 agents' checkpoints, where no sequence has a reward at h = 1"
    assert words in told(made, "2")[1]
    broken = columns | {"reward_size": np.where(early, np.nan, 4.0)}
    assert told(cells(broken), "2")[0] == "missing"
    for unusable in (0.0, np.nan):
        columns["reward_size"][columns["agent"] == 1] = unusable
        assert told(cells(columns), "2")[0] == "missing"


def test_claim_3_is_not_fooled_by_one_large_rise():
    def error(c):
        return np.select([c["horizon"] == 1, c["horizon"] == 5], [0.02, 0.01], 0.5)

    expected = {"3": -0.01, "3 former": 0.48}
    assert estimates(figure3(error), expected) == pytest.approx(expected)


def test_claims_5_and_6_on_known_correlations():
    columns = rows(step=[0, 500, 1000], state=[0, 1])
    by_step = {0: 0.9, 500: -0.2, 1000: -0.6}
    columns["spearman"] = np.array([by_step[s] for s in columns["step"]])
    # A share of 1/4 and of 1/2; the mean of the states' own shares would be another.
    by_place = {(500, 0): (3.0, 2.0), (500, 1): (1.0, 1.0), (1000, 0): (3.0, 1.0)}
    by_place |= {(1000, 1): (1.0, 1.0), (0, 0): (0.0, 0.0), (0, 1): (0.0, 0.0)}
    places = zip(columns["step"], columns["state"], strict=True)
    pairs = [by_place[int(step), int(state)] for step, state in places]
    columns["mean_error"], columns["likely_error"] = np.array(pairs).T
    made = cells(columns)
    expected = {"5a": 0.4, "5b": 0.375, "5c": 0.2, "6a": 0.4, "6b": 0.25}
    assert estimates(made, expected) == pytest.approx(expected)
    only = cells({k: v[columns["step"] < 1000] for k, v in columns.items()})
    for name in ("6a", "6b"):
        verdict, note = told(only, name)
        assert (verdict, "this needs 2" in note) == ("missing", True)
    perfect = cells({**columns, "mean_error": np.zeros(18), "likely_error": np.zeros(18)})
    assert told(perfect, "5b") == ("missing", "undefined for agent 0, 1, 2")


def figure5(squared, noise=0.0, error=None):
    """A table of trained models and policies, from matrices; step 0 is absurd."""
    steps = [0, *(500 * (i + 1) for i in range(len(squared)))]
    columns = rows(model_step=steps, policy_step=steps)
    index = [
        (steps.index(x) - 1, steps.index(y) - 1)
        for x, y in zip(columns["model_step"], columns["policy_step"], strict=True)
    ]
    for name, matrix in (("squared_error", squared), ("error", error or squared)):
        columns[name] = np.array([99.0 if min(i) < 0 else matrix[i[0]][i[1]] for i in index])
    columns["squared_noise"] = np.full(len(index), noise)
    return cells(columns)


def test_claims_7_and_8_on_a_known_matrix():
    """Rows' excess of mean size: (0.7 - 0.1) / 0.4 and (0.2 - 0.3) / 0.25."""
    made = figure5([[0.1, 0.7], [0.2, 0.3]])
    expected = {"7": (1.5 - 0.4) / 2, "7 former": 0.0, "8": 1.5, "8 former": 0.6}
    assert estimates(made, expected) == pytest.approx(expected)
    assert told(made, "7")[1] == "ties within Monte Carlo error: 0 of 6 rows"
    tied = figure5([[1.0, 1.0], [1.0, 1.0]])
    assert estimates(tied, ["7", "7 former"]) == pytest.approx({"7": 0.0, "7 former": -0.5})
    assert told(tied, "7") == ("inconclusive", "ties within Monte Carlo error: 6 of 6 rows")


def test_claim_8_asks_the_first_half_about_all_later_policies():
    """Of four models the first two: (0.3 - 0.1) / 0.25, and (0.35 - 0.2) / 0.25."""
    later = [[0.1, 0.3, 0.3, 0.3], [0.25, 0.2, 0.4, 0.3], [9.0] * 4, [9.0] * 4]
    assert estimates(figure5(later), ["8"])["8"] == pytest.approx((0.2 / 0.25 + 0.15 / 0.2875) / 2)


def test_a_row_that_is_not_resolved_is_a_tie_and_a_perfect_model_too():
    """Noise of 0.1 in each: an excess of 0.6 is seen, one of -0.1 is not."""
    made = figure5([[0.1, 0.7], [0.2, 0.3]], noise=0.1)
    assert estimates(made, ["7"])["7"] == pytest.approx(1.5 / 2)
    assert told(made, "7")[1] == "ties within Monte Carlo error: 3 of 6 rows"
    perfect = figure5([[0.0, 0.0], [0.0, 0.0]])
    assert estimates(perfect, ["7", "8"]) == {"7": 0.0, "8": 0.0}
    unknown = figure5([[np.nan] * 2] * 2, noise=np.nan)
    assert told(unknown, "7")[0] == "missing"


BUDGETS = (1, 4, 64)
RETURNS = {
    ("learned", "uniform"): (20.0, 50.0, 120.0),
    ("learned", "policy"): (100.0, 130.0, 180.0),
    ("true", "uniform"): (20.0, 200.0, 400.0),
    ("true", "policy"): (100.0, 300.0, 420.0),
}


def figure7(by_step, sampled=90.0, greedy=100.0, budgets=BUDGETS):
    """Three agents, one apart from the next; value leaves are absurd."""
    names = ("agent", "step", "model", "prior", "leaf", "simulations", "return")
    made = []
    for agent in range(3):
        for step, returns in by_step.items():
            made.append((agent, step, "none", "sampled", "none", 0, sampled))
            made.append((agent, step, "none", "greedy", "none", 0, greedy))
            for (model, prior), of_budgets in returns.items():
                for simulations, mean in zip(BUDGETS, of_budgets, strict=True):
                    if simulations in budgets:
                        made.append((agent, step, model, prior, "rollout", simulations, mean))
                        made.append((agent, step, model, prior, "value", simulations, 0.0))
    return cells(dict(zip(names, map(np.array, zip(*made, strict=True)), strict=True)))


def test_claims_9_to_11_on_known_returns():
    made = figure7({500: RETURNS, 1000: RETURNS})
    expected = {"9a": 100.0, "9b": 280.0, "9b former": 90.0, "9c": (150.0 + 280.0) / 2}
    expected |= {"10a": 90.0, "10a former": 80.0, "10b": 240.0, "10b former": 240.0}
    # Gaps of the learned model: 80, 80, 60; of the true one: 80, 100, 20.
    expected |= {"11a": (-20.0 + 40.0) / 2, "11a former": 20.0 / 3}
    expected |= {"11b": 80.0 - 20.0, "11b former": 20.0}
    assert estimates(made, expected) == pytest.approx(expected)
    assert "gains 26 % of what it gains in the true one" in told(made, "9b")[1]
    assert "gains 27 % of what it gains in the true one" in told(made, "10b")[1]
    for environment in ("lunar-lander", "breakout"):
        fails = estimates(made, ["9a"], named(environment))["9a"]
        assert fails == pytest.approx(planning_claims.FAILED * 380 - 100)
    breakout = {"10a": 180.0 - 130.0, "10c": 90.0 - 180.0, "9b": 280.0, "9c": 215.0, "11b": 60.0}
    assert estimates(made, breakout, named("breakout")) == pytest.approx(breakout)


def test_planning_at_the_ceiling_cannot_be_told_apart():
    """At step 1000 all four planners and the prior return what the best ones do."""
    best = dict.fromkeys(RETURNS, (20.0, 419.0, 420.0))
    both = figure7({500: RETURNS, 1000: best})
    expected = {"9b": 280.0, "9c": 215.0, "10a": 90.0, "10b": 240.0, "11a": 10.0, "11b": 60.0}
    expected["10a"] = (90.0 + 330.0) / 2  # The prior is below.
    assert estimates(both, expected) == pytest.approx(expected)
    assert "left out: checkpoint 1,000" in told(both, "11a")[1]
    assert told(both, "9b")[1].startswith("free search in the learned model gains 26 %")
    assert estimates(both, ["10b former"])["10b former"] == pytest.approx(120.0)
    made = figure7({1000: best}, sampled=415.0, greedy=420.0)
    names = ("9b", "9c", "10a", "10b", "11a", "11b")
    assert {told(made, name)[0] for name in names} == {"cannot tell"}
    assert told(made, "10a", named("breakout"))[0] == "cannot tell"


def test_one_simulation_is_no_search():
    """With budgets of 1 and 64 the comparisons are of 64, and nothing can be said to fall."""
    made = figure7({500: RETURNS}, budgets=(1, 64))
    expected = {"9c": 280.0, "11a": 40.0, "11a former": (0.0 + 40.0) / 2, "10a": 90.0}
    assert estimates(made, expected) == pytest.approx(expected)
    assert told(made, "11b") == (
        "missing",
        "table has simulations [64] above 1; this needs 2 values.",
    )
    assert told(made, "10a", named("breakout"))[0] == "missing"


def test_claim_12_reads_the_whole_search():
    columns = rows(step=[2000], prior=["policy", "uniform"], simulations=[1, 8])
    for measure, gap in (("error", 0.3), ("tv", 0.2), ("kl", 0.1)):
        whole = (columns["prior"] == "uniform") & (columns["simulations"] == 8)
        columns[measure] = 1.0 + np.where(whole, gap, 0.0)
    expected = {"12a": 0.3, "12b": 0.2, "12c": 0.1}
    assert estimates(cells(columns), expected) == pytest.approx(expected)


def test_a_claim_is_not_judged_on_nothing():
    """One trained checkpoint, one budget, one horizon, no late checkpoint: named, not judged."""
    for name in ("7", "7 former", "8", "8 former"):
        assert told(figure5([[1.0]]), name)[0] == "missing"
    short = figure3(lambda c: np.ones(len(c["step"])), steps=(0, 500, 1000), horizons=(1,))
    assert told(short, "3")[0] == told(short, "3 former")[0] == "missing"
    short.steps = 8000
    verdict, note = told(short, "4a")
    assert (verdict, "3/4 of training" in note) == ("missing", True)
    verdict, note = told(short, "4b")
    assert (verdict, "checkpoints [] in the last half of training" in note) == ("missing", True)
    single = figure7({500: RETURNS}, budgets=(64,))
    verdict, note = told(single, "9a")
    assert (verdict, "simulations [64]" in note) == ("missing", True)
    assert told(figure7({500: RETURNS}, budgets=(1,)), "9b")[1] == (
        "table has simulations [] above 1; this needs one."
    )


def test_every_claim_has_a_known_answer():
    """This file names each, so that a new one is not forgotten."""
    text = Path(__file__).read_text()
    for claim in PAPERS_CLAIMS:
        assert f'"{claim.label}"' in text, claim.label


def test_every_claim_stands_in_the_docs():
    page = (Path(__file__).parent.parent / "docs" / "experiments.md").read_text()
    labels = "".join(line.split("|")[1] for line in page.splitlines() if line.startswith("| "))
    for claim in PAPERS_CLAIMS:
        name = claim.name if claim.name[:2] != "12" else "12a, b, c"
        assert f" {name} " in labels, claim.label
