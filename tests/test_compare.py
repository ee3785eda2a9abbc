"""Runs side by side: no difference is found where there is none, and one that is there is found."""

import dataclasses
import importlib
import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from pyarrow import csv
from scipy import stats

from muscope import claims, cli, comparing, comparison
from muscope.comparison.differences import DIFFERS
from muscope.comparison.draw import draw_differences
from muscope.comparison.runs import Compared, named
from muscope.comparison.values import measures_of
from muscope.errors import RunError
from muscope.examination import EXAMINATION
from muscope.experiments import registry
from muscope.storage import tables
from muscope.storage.folder import Folder

interval = importlib.import_module("muscope.claims.interval")
STEPS = (0, 100, 200)
POLICIES = ("mcts", "prior", "prior_tempered")
SETTINGS = {
    "train": {"seed": 0},
    "search": {"simulations": 4},
    "evaluate": {"states": 4},
    "figure2": {},
}


@pytest.fixture
def few_resamples(monkeypatch):
    """A tenth of the resamples, for what is repeated hundreds of times."""
    monkeypatch.setattr(interval, "RESAMPLES", 10_000)


def returns_table(returns, seed=0, environment="cart-pole", config=SETTINGS, steps=STEPS):
    """Figure 2's table of one episode per agent, checkpoint and policy; [P, steps] returns of
    MCTS, the priors' are a tenth of them.
    """
    returns = np.asarray(returns, float)
    agents, places = np.indices(returns.shape).reshape(2, -1)
    columns = {
        "agent": np.concatenate([agents] * 3),
        "step": np.concatenate([np.asarray(steps)[places]] * 3),
        "policy": np.repeat(POLICIES, returns.size),
        "episode": np.zeros(3 * returns.size, int),
        "return": np.concatenate([returns.ravel() * share for share in (1.0, 0.1, 0.1)]),
        "length": np.ones(3 * returns.size, int),
        "temperature": np.ones(3 * returns.size),
    }
    settings = {
        "environment": environment,
        "preset": "p",
        "seed": seed,
        "discount": 1.0,
        "simulations": 4,
        "evaluate_seed": 1,
        "muscope": "0",
        "config": json.dumps(config),
    }
    return tables.make(registry.get("figure2").tables[0], columns, settings)


class Simulated(Compared):
    """A run whose only table is in memory."""

    def __init__(self, name, returns, **more):
        super().__init__(name, Folder("nowhere"))
        made = returns_table(returns, **more)
        self._kept = {"figure2": (made, tables.settings_of(made))}.get

    def has(self, experiment):
        return experiment.name == "figure2"


def differences(*runs):
    experiment = registry.get("figure2")
    found = comparison.curves(experiment, runs)
    return comparison.between(experiment, found, runs).to_pylist()


def claimed(*runs):
    return [row for row in differences(*runs) if row["verdict"] in DIFFERS]


def draws(rng, shift=0.0, skewed=False, agents=10):
    """Returns of agents that differ from each other, and of themselves from step to step."""
    own = rng.normal(size=(agents, 1)) ** (3 if skewed else 1)
    return 100 + 10 * own + 5 * rng.normal(size=(agents, len(STEPS))) + shift


@pytest.mark.parametrize("skewed", [False, True])
@pytest.mark.parametrize("seeds", [(0, 1), (0, 0)])
def test_of_equal_settings_no_difference_is_found_in_95_percent(seeds, skewed, few_resamples):
    rng, times, wrong = np.random.default_rng(0), 200, 0
    for _ in range(times):
        runs = [
            Simulated(name, draws(rng, skewed=skewed), seed=seed)
            for name, seed in zip("ab", seeds, strict=True)
        ]
        rows = differences(*runs)
        assert len(rows) == 4  # Two policies, at the end and through training.
        wrong += any(row["verdict"] in DIFFERS for row in rows)
    # At a level of 5 % more than 15 of 200 are wrong in 5 % of such tests.
    assert wrong <= 15


def test_many_variants_are_corrected_together(few_resamples):
    rng, times = np.random.default_rng(1), 60
    wrong = uncorrected = 0
    for _ in range(times):
        rows = differences(*(Simulated(name, draws(rng), seed=ord(name)) for name in "abcdefgh"))
        assert len(rows) == 7 * 4
        wrong += any(row["verdict"] in DIFFERS for row in rows)
        uncorrected += any(row["p"] < claims.ALPHA for row in rows)
    assert wrong <= 6
    assert uncorrected > 12  # What the correction is for.


def test_a_difference_that_is_there_is_found():
    rng = np.random.default_rng(2)
    rows = claimed(
        Simulated("a", draws(rng), seed=0), Simulated("b", draws(rng, shift=40.0), seed=1)
    )
    assert {(row["measure"], row["at"]) for row in rows} == {
        (f"return of {policy}", at)
        for policy in ("MCTS", "policy prior")
        for at in ("step 200", "mean of trained checkpoints")
    }
    assert all(row["verdict"] == "higher" and row["low"] > 0 for row in rows)
    assert all(row["agents"] == "10 and 10" for row in rows)


def test_a_small_difference_is_found_pair_by_pair_alone():
    rng = np.random.default_rng(3)
    plain = draws(rng)
    other = plain - 3.0 + rng.normal(size=plain.shape)
    pairs = claimed(Simulated("a", plain, seed=4), Simulated("b", other, seed=4))
    assert len(pairs) == 4
    assert all(row["verdict"] == "lower" and row["agents"] == "10 paired" for row in pairs)
    mcts = next(r for r in pairs if r["measure"] == "return of MCTS" and r["at"] == "step 200")
    each = (other - plain)[:, -1]
    assert mcts["difference"] == pytest.approx(each.mean())
    assert mcts["run_mean"] - mcts["reference_mean"] == pytest.approx(each.mean())
    by_student = stats.ttest_1samp(each, 0.0).confidence_interval()
    assert (mcts["low"], mcts["high"]) == pytest.approx(tuple(by_student), abs=0.3)
    assert not claimed(Simulated("a", plain, seed=4), Simulated("b", other, seed=5))
    # Agents that muscope did not train have nothing to do with each other.
    assert not claimed(Simulated("a", plain, seed=-1), Simulated("b", other, seed=-1))


def by_ratio(*runs):
    """The differences, had MCTS' returns been errors."""
    experiment = registry.get("figure2")
    found = comparison.curves(experiment, runs)
    ratios = [(first._replace(ratio=True), others) for first, others in found]
    rows = comparison.between(experiment, ratios, runs).to_pylist()
    return [row for row in rows if row["measure"] == "return of MCTS"]


def test_errors_differ_by_a_factor():
    """Heavy-tailed errors that are all halved: agents' logarithms say so, their sum cannot."""
    rng = np.random.default_rng(7)
    plain = np.exp(3 * rng.normal(size=(10, len(STEPS))))
    other = 0.5 * plain * np.exp(0.2 * rng.normal(size=plain.shape))
    runs = [Simulated(name, values, seed=4) for name, values in (("a", plain), ("b", other))]
    assert not claimed(*runs)
    rows = by_ratio(*runs)
    assert {row["verdict"] for row in rows} == {"lower"}
    last = next(row for row in rows if row["at"] == "step 200")
    logs = np.log(other / plain)[:, -1]
    assert last["ratio"] == pytest.approx(np.exp(logs.mean()))
    by_student = stats.ttest_1samp(logs, 0.0).confidence_interval()
    assert (last["low"], last["high"]) == pytest.approx(tuple(np.exp(by_student)), rel=0.05)
    assert last["difference"] == pytest.approx((other - plain)[:, -1].mean())
    apart = by_ratio(Simulated("a", plain, seed=4), Simulated("b", 1e-4 * plain, seed=5))
    assert {row["verdict"] for row in apart} == {"lower"}
    assert apart[0]["ratio"] == pytest.approx(1e-4)


def test_an_error_of_0_has_no_logarithm():
    """Then all runs are compared by plain differences there, and drawn on one scale."""
    plain = np.arange(1.0, 13.0).reshape(4, 3)
    none = plain.copy()
    none[1, 2] = 0.0
    runs = [Simulated("a", plain), Simulated("b", 2 * plain), Simulated("c", none)]
    rows = {(row["run"], row["at"]): row for row in by_ratio(*runs)}
    assert {at: rows["b", at]["scale"] for _, at in rows} == {
        "step 200": "difference",
        "mean of trained checkpoints": "ratio",
    }
    assert rows["b", "mean of trained checkpoints"]["ratio"] == pytest.approx(2.0)
    assert np.isnan(rows["b", "step 200"]["ratio"])
    assert draw_differences(list(rows.values()), ["a", "b", "c"])


def test_only_shared_agents_and_checkpoints_enter():
    plain = np.arange(12.0).reshape(4, 3)
    other = plain[:3] + np.array([0.0, 1.0, np.nan])
    other[0, 1] = np.nan
    rows = differences(
        Simulated("a", plain), Simulated("b", other[:, :2], steps=(0, 100)), Simulated("c", other)
    )
    mcts = {(r["run"], r["at"]): r for r in rows if r["measure"] == "return of MCTS"}
    # b ends at step 100, and has no other trained checkpoint; one of its three agents diverged.
    assert [at for run, at in mcts if run == "b"] == ["step 100"]
    assert mcts["b", "step 100"]["agents"] == "2 paired"
    assert mcts["b", "step 100"]["difference"] == pytest.approx(1.0)
    lost = mcts["c", "step 200"]
    assert (lost["agents"], lost["verdict"]) == ("0 paired", "cannot tell")
    assert np.isnan(lost["difference"])


def test_one_agent_has_no_interval():
    (row, *_) = differences(Simulated("a", [[1, 2, 3]]), Simulated("b", [[2, 3, 5]], seed=1))
    assert row["difference"] == 2.0
    assert row["verdict"] == "cannot tell"


@pytest.mark.parametrize("sizes", [(5, 5), (10, 10), (6, 20), (30, 30)])
def test_intervals_of_unpaired_agents_cover_the_truth(sizes, few_resamples):
    rng, times, covered, found = np.random.default_rng(5), 300, 0, []
    for i in range(times):
        a, b = rng.normal(1.0, 1.0, sizes[0]), rng.normal(0.0, 3.0, sizes[1])
        estimate, low, high, p = claims.difference(a, b, i)
        assert estimate == a.mean() - b.mean()
        assert (p < claims.ALPHA) == (not low <= 0 <= high)
        covered += low <= 1.0 <= high
        found.append(p - stats.ttest_ind(a, b, equal_var=False).pvalue)
    assert covered >= 0.925 * times
    assert np.abs(np.mean(found)) < 0.02  # Of normal numbers Welch's test says the same.


def test_what_is_constant_differs_by_exactly_that():
    assert claims.difference(np.full(3, 2.0), np.full(4, 1.5), 0)[:3] == (0.5, 0.5, 0.5)
    same = claims.difference(np.full(3, 2.0), np.full(4, 2.0), 0)
    assert same == (0.0, 0.0, 0.0, 1.0)


def test_other_looks_are_told():
    other = {**SETTINGS, "evaluate": {"states": 8, "checkpoints": [0]}, "train": {"seed": 1}}
    config = {**SETTINGS, "evaluate": {"states": 4, "checkpoints": []}}
    runs = [
        Simulated("a", np.ones((2, 3)), config=config),
        Simulated("b", np.ones((2, 3)), config=other),
    ]
    assert {row["note"] for row in differences(*runs)} == {"evaluate.states (4 != 8)"}


def test_every_figure_says_what_it_is_compared_by():
    for source in registry.OWN:
        experiment = registry.get(source)
        schemas = {schema.name: schema.names for schema in experiment.tables}
        assert experiment.measures
        assert experiment in {experiment}  # Others keep things by experiment.
        for measure in experiment.measures:
            columns = schemas[measure.table or experiment.name]
            assert {measure.column, measure.x, *measure.where} <= {*columns}


def test_a_users_figure_is_compared_by_all_that_it_measures():
    other = dataclasses.replace(registry.get("figure6"), measures=())
    assert [(m.column, m.x) for m in measures_of(other)] == [
        (name, "step") for name in ("error", "error_tree_path", "tv", "kl")
    ]


def written(path, returns, **more):
    """An examination's folder with Figure 2."""
    path.mkdir(parents=True)
    (path / EXAMINATION).write_text("{}")
    about = {"agents": str(len(returns)), "training_steps": "200"}
    table = returns_table(returns, **more)
    tables.write(Folder(path).table_path("figure2"), table, about)
    return path


def test_a_comparison_is_tables_and_a_page(tmp_path, capsys):
    rng = np.random.default_rng(6)
    a = written(tmp_path / "a", draws(rng))
    b = written(tmp_path / "b", draws(rng, shift=40.0), config={**SETTINGS, "loss": {"unroll": 2}})
    cli.main(["claims", str(a)])
    cli.main(["compare", str(a), str(b), "--out", str(tmp_path / "out")])
    page = tmp_path / "out" / "compare.html"
    assert capsys.readouterr().out.strip().endswith(str(page))
    html = page.read_text()
    assert "All are held against <strong>a</strong>" in html
    assert "loss (None != {&#39;unroll&#39;: 2})" in html
    assert "The claims of b are not judged" in html
    assert html.count("data:image/svg+xml;base64,") == 2
    for name in ("http://", "https://", "<script"):
        assert name not in html
    for name in ("values", "differences", "claims"):
        file = tmp_path / "out" / "compare" / name
        table = tables.read(file.with_suffix(".parquet"))
        assert table.num_rows
        assert csv.read_csv(file.with_suffix(".csv")).num_rows == table.num_rows
    assert pq.read_schema(file.with_suffix(".parquet")).field("run").metadata[b"meaning"]
    values = tables.read(tmp_path / "out" / "compare" / "values.parquet").to_pylist()
    at_end = [v for v in values if v["measure"] == "return of MCTS" and v["place"] == 200]
    assert {v["run"]: v["agents"] for v in at_end} == {"a": 10, "b": 10}


def test_runs_that_cannot_be_compared_get_one_line(tmp_path, capsys):
    a = written(tmp_path / "a", np.ones((2, 3)))
    other = written(tmp_path / "other", np.ones((2, 3)), environment="lunar-lander")
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / EXAMINATION).write_text("{}")
    for given, message in (
        ([a, other], "is about lunar-lander and .* about cart-pole"),
        ([a, empty], "empty has no tables"),
        ([a], "is alone"),
        ([a, a], "named twice"),
        ([a, tmp_path / "none"], "no run at"),
        ([], "name runs"),
    ):
        with pytest.raises(RunError, match=message) as stop:
            comparing.compare(given, tmp_path / "out")
        assert len(str(stop.value).splitlines()) == 1
    assert not (tmp_path / "out").exists()
    with pytest.raises(SystemExit) as stop:
        cli.main(["compare", str(a), str(other)])
    assert stop.value.code == 1
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_runs_are_called_by_as_much_of_their_paths_as_it_takes(tmp_path):
    folders = [Folder(tmp_path / name) for name in ("x/base", "x/other", "y/base")]
    assert [run.name for run in named(folders[:2])] == ["base", "other"]
    assert [run.name for run in named(folders)] == ["x/base", "x/other", "y/base"]


def test_two_agents_decide_nothing():
    """Equal by chance, their difference has an interval of no width."""
    two, more = np.ones((2, 3)), 3.0 + np.ones((2, 3))
    for seed in (0, 1):  # Paired, and not.
        rows = differences(Simulated("a", two), Simulated("b", more, seed=seed))
        assert all(row["low"] == row["high"] > 0 for row in rows)
        assert {row["verdict"] for row in rows} == {"cannot tell"}
