"""Claims with known answers: intervals, verdicts, missing cells, the table and the command."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import muscope
from muscope import cli
from muscope.claims import Interval, as_text, interval, judge, verdict
from muscope.claims.cells import Cells, MissingCell
from muscope.errors import RunError
from muscope.experiments import registry
from muscope.storage import tables

CLAIMS = sorted(
    (c for e in registry.everything().values() for c in e.claims), key=lambda c: c.place
)
CART_POLE = [claim for claim in CLAIMS if claim.is_about("cart-pole")]
BY_NAME = {claim.name: claim for claim in CART_POLE}


def test_the_interval_covers_the_mean_as_often_as_it_says():
    """Normal data with known mean: about 95 % of the intervals hold it, also for few agents."""
    rng = np.random.default_rng(0)
    for n in (2, 3, 4, 5, 30):
        held = 0
        for seed in range(300):
            span = interval(rng.normal(1.0, 2.0, n), seed)
            held += span.low <= 1.0 <= span.high
        assert 0.92 <= held / 300 <= 0.995


def test_the_interval_of_many_is_students():
    values = np.random.default_rng(1).normal(3.0, 2.0, 400)
    span = interval(values, 0)
    reach = 1.966 * values.std(ddof=1) / np.sqrt(400)
    assert span.estimate == pytest.approx(values.mean())
    assert span.low == pytest.approx(values.mean() - reach, abs=0.1 * reach)
    assert span.high == pytest.approx(values.mean() + reach, abs=0.1 * reach)


def test_the_interval_of_four_agents_is_students_and_all_are_seeded():
    values = np.array([1.0, 5.0, 2.0, 4.0])
    reach = 3.18245 * values.std(ddof=1) / 2
    np.testing.assert_allclose(interval(values, 0)[1:], [3 - reach, 3 + reach], rtol=1e-4)
    many = np.random.default_rng(0).normal(size=12)
    assert interval(many, 7) == interval(many, 7)
    assert interval(many, 7) != interval(many, 8)
    assert np.isnan(interval(np.array([2.0]), 0).low)


def test_verdicts():
    assert verdict(Interval(1.0, 0.1, 2.0)) == "holds"
    assert verdict(Interval(-1.0, -2.0, -0.1)) == "does not hold"
    assert verdict(Interval(0.0, 0.0, 0.0)) == "does not hold"
    assert verdict(Interval(0.5, -0.1, 2.0)) == "inconclusive"
    assert verdict(Interval(0.5, float("nan"), float("nan"))) == "inconclusive"


def rows(agents=3, **axes):
    """All combinations of the axes' values for every agent, as columns."""
    axes = {"agent": list(range(agents)), **axes}
    grid = np.meshgrid(*axes.values(), indexing="ij")
    return {name: values.ravel() for name, values in zip(axes, grid, strict=True)}


def cells(columns, agents=3, name="table", steps=2000):
    return Cells(name, pa.table(columns), range(agents), steps)


def test_cells_are_means_per_agent_and_a_missing_one_is_named():
    columns = rows(step=[0, 500], episode=[0, 1])
    columns["return"] = columns["agent"] * 100.0 + columns["step"] + columns["episode"]
    means = cells(columns).mean("return", step=[0, 500])
    np.testing.assert_allclose(means, [[0.5, 500.5], [100.5, 600.5], [200.5, 700.5]])
    table = pa.table(columns)
    keep = ~((columns["agent"] == 2) & (columns["step"] == 500))
    lacking = Cells("figure2", table.filter(pa.array(keep)), range(3), 2000)
    with pytest.raises(MissingCell, match="figure2 has no return for agent 2, step 500"):
        lacking.mean("return", step=[0, 500])


def test_nothing_but_nan_is_a_missing_cell():
    columns = rows(step=[500], state=[0, 1])
    columns["spearman"] = np.where(columns["agent"] == 1, np.nan, -0.5)
    row = judge(BY_NAME["5"], cells(columns), 0)
    assert row["verdict"] == "missing"
    assert "agent 1, step 500" in row["note"]
    assert row["n_agents"] == 3


def test_a_dropped_agent_is_not_silently_left_out():
    columns = rows(agents=2, step=[500], policy=["mcts", "prior"])
    columns["return"] = np.where(columns["policy"] == "mcts", 10.0, 5.0)
    assert judge(BY_NAME["1"], cells(columns, agents=2), 0)["verdict"] == "holds"
    row = judge(BY_NAME["1"], cells(columns, agents=3), 0)
    assert row["verdict"] == "missing"
    assert "agent 2" in row["note"]


def test_claim_1_is_the_mean_difference_over_trained_checkpoints():
    columns = rows(step=[0, 500, 1000], policy=["mcts", "prior"])
    gain = {0: -100.0, 500: 10.0, 1000: 30.0}
    lead = np.array([gain[s] for s in columns["step"]]) + columns["agent"]
    columns["return"] = 50.0 + np.where(columns["policy"] == "mcts", lead, 0.0)
    row = judge(BY_NAME["1"], cells(columns), 0)
    assert row["estimate"] == pytest.approx(21.0)
    assert row["verdict"] == "holds"
    assert row["low"] < 20.0 < 22.0 < row["high"]


def figure3_cells(error):
    columns = rows(step=[0, 500, 2000], horizon=[1, 10])
    columns["error"] = error(columns) + 0.0 * columns["step"]
    columns["reward_size"] = np.ones(len(columns["step"]))
    return cells(columns)


def test_claims_2_to_4_on_known_errors():
    # 0.01 at h = 1; 0.1 at h = 10 and step 500, 0.04 at step 2000; step 0 is absurd.
    def error(c):
        late = np.where(c["step"] == 2000, 0.04, 0.1)
        return np.where(c["step"] == 0, 9.0, np.where(c["horizon"] == 1, 0.01, late))

    made = figure3_cells(error)
    for name, expected in (("2", 0.04), ("3", 0.06), ("4", 0.06)):
        row = judge(BY_NAME[name], made, 0)
        assert row["estimate"] == pytest.approx(expected)
        assert row["verdict"] == "holds"
    flat = figure3_cells(lambda c: np.full(len(c["step"]), 0.2))
    assert [judge(BY_NAME[n], flat, 0)["verdict"] for n in "234"] == ["does not hold"] * 3


def test_claims_5_and_6_on_known_correlations():
    columns = rows(step=[0, 500, 1000], state=[0, 1])
    by_step = {0: 0.9, 500: -0.2, 1000: -0.6}
    columns["spearman"] = np.array([by_step[s] for s in columns["step"]])
    made = cells(columns)
    assert judge(BY_NAME["5"], made, 0)["estimate"] == pytest.approx(0.4)
    assert judge(BY_NAME["6"], made, 0)["estimate"] == pytest.approx(0.4)
    only = cells({k: v[columns["step"] < 1000] for k, v in columns.items()})
    row = judge(BY_NAME["6"], only, 0)
    assert (row["verdict"], "this needs 2" in row["note"]) == ("missing", True)


def test_a_claim_is_not_judged_on_nothing():
    """One trained checkpoint, one budget, one horizon, no late checkpoint: named, not judged."""
    lone = rows(model_step=[0, 500], policy_step=[0, 500])
    lone["error"] = np.ones(len(lone["agent"]))
    for name in ("7", "8"):
        assert judge(BY_NAME[name], cells(lone), 0)["verdict"] == "missing"
    short = rows(step=[0, 500, 1000], horizon=[1])
    short["error"] = np.ones(len(short["agent"]))
    assert judge(BY_NAME["3"], cells(short), 0)["verdict"] == "missing"
    row = judge(BY_NAME["4"], cells(short, steps=8000), 0)
    assert (row["verdict"], "3/4 of training" in row["note"]) == ("missing", True)
    single = rows(step=[500], prior=["uniform"], simulations=[64])
    single |= {"return": np.ones(3), "leaf": ["rollout"] * 3, "model": ["learned"] * 3}
    row = judge(BY_NAME["9a"], cells(single), 0)
    assert (row["verdict"], "simulations [64]" in row["note"]) == ("missing", True)


def test_claims_7_and_8_on_a_known_matrix():
    matrix = {(500, 500): 0.1, (500, 1000): 0.7, (1000, 500): 0.2, (1000, 1000): 0.3}
    columns = rows(model_step=[0, 500, 1000], policy_step=[0, 500, 1000])
    columns["error"] = np.array(
        [
            matrix.get((x, y), 0.0)
            for x, y in zip(columns["model_step"], columns["policy_step"], strict=True)
        ]
    )
    made = cells(columns)
    assert judge(BY_NAME["7"], made, 0)["estimate"] == pytest.approx(0.0)
    tied = cells({**columns, "error": np.ones(len(columns["agent"]))})
    assert judge(BY_NAME["7"], tied, 0)["estimate"] == pytest.approx(-0.5)
    assert judge(BY_NAME["8"], made, 0)["estimate"] == pytest.approx(0.6)


def test_claims_9_to_11_on_known_returns():
    value = {
        ("learned", "uniform"): {1: 20.0, 64: 120.0},
        ("learned", "policy"): {1: 100.0, 64: 180.0},
        ("true", "uniform"): {1: 20.0, 64: 400.0},
        ("true", "policy"): {1: 100.0, 64: 420.0},
    }
    columns = {n: [] for n in ("agent", "step", "model", "prior", "leaf", "simulations", "return")}

    def add(*row):
        for name, x in zip(columns, row, strict=True):
            columns[name].append(x)

    for agent in range(3):
        for step in (500, 1000):
            add(agent, step, "none", "sampled", "none", 0, 90.0)
            add(agent, step, "none", "greedy", "none", 0, 5.0)
            for (model, prior), returns in value.items():
                for simulations, mean in returns.items():
                    add(agent, step, model, prior, "rollout", simulations, mean)
                    add(agent, step, model, prior, "value", simulations, -1000.0)
    made = cells(columns)
    expected = {"9a": 100.0, "9b": 90.0, "10a": 90.0, "10b": 240.0, "11a": 20.0, "11b": 20.0}
    for name, number in expected.items():
        assert judge(BY_NAME[name], made, 0)["estimate"] == pytest.approx(number), name
    lander = {claim.name: claim for claim in CLAIMS if claim.is_about("lunar-lander")}
    assert judge(lander["9a"], made, 0)["estimate"] == pytest.approx(0.1 * 380 - 100)
    assert {name for name in BY_NAME if lander[name] != BY_NAME[name]} == {"9a"}


def test_claim_12_reads_the_whole_search():
    columns = rows(step=[2000], prior=["policy", "uniform"], simulations=[1, 8])
    for measure, gap in (("error", 0.3), ("tv", 0.2), ("kl", 0.1)):
        whole = (columns["prior"] == "uniform") & (columns["simulations"] == 8)
        columns[measure] = 1.0 + np.where(whole, gap, 0.0)
    made = cells(columns)
    estimates = [judge(BY_NAME[n], made, 0)["estimate"] for n in ("12a", "12b", "12c")]
    np.testing.assert_allclose(estimates, [0.3, 0.2, 0.1])


@pytest.fixture(scope="module")
def run(tmp_path_factory, module_tiny):
    return muscope.study(module_tiny, tmp_path_factory.mktemp("claims") / "run")


def test_a_run_is_judged_in_full(run, capsys):
    table = tables.read(run.table_path("claims"))
    assert table["claim"].to_pylist() == [claim.name for claim in CART_POLE]
    assert len({name.rstrip("abc") for name in table["claim"].to_pylist()}) == 12
    assert set(table["n_agents"].to_pylist()) == {2}
    assert {"environment", "config", "seed"} <= set(table.column_names)
    cli.main(["claims", str(run.path)])
    shown = capsys.readouterr().out
    for claim in CART_POLE:
        assert claim.text in shown
    page = run.report_path.read_text()
    assert "The paper's claims" in page
    assert table["verdict"].to_pylist()[0] in page


def test_a_table_that_was_not_made_is_named(run):
    kept = run.table_path("figure6").read_bytes()
    run.table_path("figure6").unlink()
    rows_ = {r["claim"]: r for r in muscope.judge(run).to_pylist()}
    assert rows_["12a"]["verdict"] == "missing"
    assert "no table figure6" in rows_["12a"]["note"]
    assert rows_["1"]["verdict"] != "missing"
    assert "missing" in as_text(muscope.judge(run))
    run.table_path("figure6").write_bytes(kept)


def test_a_stale_table_is_not_judged(run):
    path = run.table_path("figure7")
    kept = path.read_bytes()
    tables.write(path, tables.read(path), {**tables.about(path), "mark": "of other agents"})
    with pytest.raises(RunError, match=r"figure7.parquet was made of other agents"):
        muscope.judge(run)
    path.write_bytes(kept)


def test_a_lost_agents_rows_are_named_in_the_runs_claims(run):
    path = run.table_path("figure2")
    kept = path.read_bytes()
    table = pq.read_table(path)
    keep = ~((table["agent"].to_numpy() == 1) & (table["step"].to_numpy() == 8))
    tables.write(path, table.filter(pa.array(keep)), tables.about(path))
    row = muscope.judge(run).to_pylist()[0]
    path.write_bytes(kept)
    assert (row["verdict"], row["claim"]) == ("missing", "1")
    assert "agent 1, step 8" in row["note"]


def test_the_command_needs_runs(capsys, tmp_path):
    for arguments, message in (
        (["claims"], "needs RUN first"),
        (["claims", str(tmp_path / "none")], "no run at"),
    ):
        with pytest.raises(SystemExit) as stop:
            cli.main(arguments)
        assert stop.value.code == 1
        assert message in capsys.readouterr().err
