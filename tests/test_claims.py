"""Claims: intervals, p-values and their correction, verdicts, cells, the table and the command."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from claims_by_hand import CART_POLE, PAPERS_CLAIMS, cells, named, rows
from scipy.stats import ttest_1samp

import muscope
from muscope import cli
from muscope.claims import (
    AtCeiling,
    Cells,
    Claim,
    MissingCell,
    Noted,
    as_text,
    below_ceiling,
    correct,
    holm,
    interval,
    judge,
    verdict,
)
from muscope.claims.interval import FLOOR
from muscope.errors import RunError
from muscope.storage import tables


def test_the_interval_covers_the_mean_as_often_as_it_says():
    """Normal data with known mean: about 95 % of the intervals hold it, also for few agents; and
    p is below 0.05 just where the interval leaves out 0.
    """
    rng = np.random.default_rng(0)
    for n, count in ((2, 200), (3, 200), (4, 200), (5, 200), (6, 200), (30, 100)):
        held = 0
        for seed in range(count):
            values = rng.normal(0.0, 2.0, n)
            span = interval(values, seed)
            held += span.low <= 0.0 <= span.high
            assert (span.low > 0 or span.high < 0) == (span.p < 0.05)
        assert 0.9 <= held / count <= 0.995


def test_the_interval_of_many_is_students_and_so_is_its_p():
    values = np.random.default_rng(1).normal(0.25, 2.0, 400)
    span = interval(values, 0)
    reach = 1.966 * values.std(ddof=1) / np.sqrt(400)
    assert span.estimate == pytest.approx(values.mean())
    assert span.low == pytest.approx(values.mean() - reach, abs=0.1 * reach)
    assert span.high == pytest.approx(values.mean() + reach, abs=0.1 * reach)
    assert span.p == pytest.approx(ttest_1samp(values, 0).pvalue, rel=0.2)
    assert interval(-values, 0).p == pytest.approx(span.p, rel=0.2)


def test_the_interval_of_four_agents_is_students_and_all_are_seeded():
    values = np.array([1.0, 5.0, 2.0, 4.0])
    reach = 3.18245 * values.std(ddof=1) / 2
    span = interval(values, 0)
    np.testing.assert_allclose([span.low, span.high], [3 - reach, 3 + reach], rtol=1e-4)
    assert span.p == pytest.approx(ttest_1samp(values, 0).pvalue)
    many = np.random.default_rng(0).normal(size=12)
    assert interval(many, 7) == interval(many, 7)
    assert interval(many, 7) != interval(many, 8)
    assert np.isnan(interval(np.array([2.0]), 0)[1:]).all()


def test_a_small_p_is_not_left_to_resampling_alone():
    """Eight positive numbers: no resample's mean is negative, which is not a p of 0."""
    values = np.array([0.1, 0.2, 0.3, 1.0, 2.0, 4.0, 0.5, 3.0])
    assert 1e-3 < interval(values, 0).p < 0.05
    assert interval(values, 0).low > 0


def test_equal_agents_have_the_least_p_and_nothing_but_zeros_the_greatest():
    assert interval(np.full(8, 0.3), 0)[:2] == (0.3, pytest.approx(0.3))
    assert interval(np.full(8, 0.3), 0).p == interval(np.full(3, -0.3), 0).p == FLOOR
    assert interval(np.zeros(8), 0) == (0.0, 0.0, 0.0, 1.0)


def test_p_values_are_corrected_as_holm_does_by_hand():
    # Sorted: 0.005 x 4, 0.01 x 3, 0.03 x 2, 0.04 x 1, none below the one before.
    given = [0.01, 0.04, np.nan, 0.03, 0.005]
    np.testing.assert_allclose(holm(given), [0.03, 0.06, np.nan, 0.06, 0.02])
    np.testing.assert_allclose(holm([0.6, 0.7]), [1.0, 1.0])
    assert len(holm([])) == 0


def test_verdicts():
    assert verdict(1.0, 0.049, 3) == "holds"
    assert verdict(-1.0, 0.001, 3) == "does not hold"
    assert verdict(1.0, 0.05, 3) == verdict(-1.0, 1.0, 3) == "inconclusive"
    assert verdict(0.0, interval(np.zeros(5), 0).p, 5) == "inconclusive"
    assert verdict(0.5, float("nan"), 1) == "inconclusive"


def test_two_agents_that_happen_to_be_equal_decide_nothing():
    two = judge(
        claim(values=(7.3, 7.3)), Cells("table", pa.table({"agent": [0, 1]}), range(2), 9), 0
    )
    assert two["low"] == two["high"] == 7.3
    assert two["verdict"] == "inconclusive"
    assert "needs 3" in two["note"]
    assert correct([two])[0]["verdict"] == "inconclusive"


def claim(name="x", values=(1.0, 2.0, 3.0), **more):
    return Claim(name, "So.", "a number", "table", lambda cells: np.array(values), **more)


def judged(*claims):
    return [judge(each, cells(rows()), 0) for each in claims]


def test_verdicts_are_corrected_for_the_current_readings_that_have_one():
    """Student's p is 0.028 alone; with another claim it is twice that."""
    values = (2.2, 3.0, 4.0)
    some = claim("1", values)
    alone = judged(some)[0]
    assert (alone["verdict"], alone["p"]) == ("holds", pytest.approx(0.0277, abs=1e-3))

    def missing(cells):
        raise MissingCell("There is nothing.")

    def at_ceiling(cells):
        raise AtCeiling("All are as good.")

    beside = [claim("1", former=True), *(some._replace(name=n, former=True) for n in "234")]
    absent = [some._replace(name=n, per_agent=of) for n, of in (("5", missing), ("6", at_ceiling))]
    first, *others = correct(judged(some, *beside, *absent))
    assert (first["p_adjusted"], first["verdict"]) == (alone["p"], "holds")
    assert [row["verdict"] for row in others[1:]] == ["holds"] * 3 + ["missing", "cannot tell"]
    assert all(np.isnan(row["p_adjusted"]) for row in others)
    assert others[1]["claim"] == "2 former"
    assert others[-1]["note"] == "All are as good."
    two = correct(judged(some, claim("2", values), *beside))
    assert [row["verdict"] for row in two[:2]] == ["inconclusive"] * 2
    assert two[0]["p_adjusted"] == pytest.approx(2 * alone["p"])
    assert two[0]["low"] == alone["low"] > 0


def test_verdicts_of_nothing_but_noise_are_seldom():
    """Twenty true nulls at once: in about 5 % of studies any verdict, not in 64 %."""
    rng, wrong = np.random.default_rng(3), 0
    for _ in range(40):
        made = [claim(str(i), rng.normal(size=3)) for i in range(20)]
        wrong += any(row["verdict"] != "inconclusive" for row in correct(judged(*made)))
    assert wrong <= 6


def test_a_claim_says_where_it_is_asked():
    everywhere, some = claim(), claim(environments=("cart-pole",))
    general = some._replace(elsewhere=True)
    for name in ("cart-pole", "breakout", "atari:pong", "gymnasium:Acrobot-v1", "worlds.py:mine"):
        assert everywhere.is_about(name)
        assert some.is_about(name) == (name == "cart-pole")
        assert general.is_about(name) == (name != "breakout")


def test_every_environment_is_asked_each_claim_in_one_form():
    """One claim of a name, and where the paper says nothing the general form of all."""
    for name in ("cart-pole", "lunar-lander", "breakout", "atari:breakout", "gymnasium:X-v0"):
        labels = [each.label for each in PAPERS_CLAIMS if each.is_about(name)]
        assert len(labels) == len(set(labels))
    for name in ("cart-pole", "atari:breakout", "gymnasium:X-v0"):
        assert set(named(name)) == set(CART_POLE)
    assert set(named("lunar-lander")) == set(CART_POLE)
    assert set(CART_POLE) - set(named("breakout")) == {"8", "10b", "11a"}
    assert set(named("breakout")) - set(CART_POLE) == {"10c"}


def test_the_ceiling_is_read_from_the_table():
    """From 0 to 100: above 95 nothing is told apart, and a checkpoint where all is there is out."""
    columns = rows(step=[0, 1, 2, 3], policy=["a", "b"])
    value = {(0, "a"): 0, (0, "b"): 7, (1, "a"): 80, (1, "b"): 90, (2, "a"): 94, (2, "b"): 100}
    value |= {(3, "a"): 96, (3, "b"): 99}
    places = zip(columns["step"], columns["policy"], strict=True)
    columns["return"] = np.array([value[int(s), p] for s, p in places]) + columns["agent"] - 1.0
    made = cells(columns)
    a, b = np.moveaxis(made.mean("return", step=[1, 2, 3], policy=["a", "b"]), 2, 0)
    noted = below_ceiling(made, [1, 2, 3], ["policy"], b - a, a, b)
    np.testing.assert_allclose(noted.values, 8.0)
    assert noted.note == "at the ceiling and left out: checkpoint 3"
    assert below_ceiling(made, [1, 2, 3], ["policy"], b - a, a).note == noted.note
    with pytest.raises(AtCeiling, match="at every checkpoint"):
        below_ceiling(made, [3], ["policy"], (b - a)[:, 2:], a[:, 2:], b[:, 2:])
    flat = cells({**columns, "return": np.ones(len(columns["step"]))})
    with pytest.raises(AtCeiling):
        below_ceiling(flat, [1, 2, 3], ["policy"], b - a, np.ones_like(a), np.ones_like(b))


def test_what_a_statistic_notes_stands_first():
    noted = claim()._replace(per_agent=lambda cells: Noted(np.ones(3), "by hand"))
    row = judge(noted, cells(rows()), 0, {"7": 500})
    assert row["note"].startswith("by hand; agent 7 diverged by training step 500")


def test_a_column_that_an_older_version_did_not_make_is_named():
    with pytest.raises(MissingCell, match=r"table has no column new: .* anew adds the column"):
        cells(rows(step=[500])).mean("new", step=[500])


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
    row = judge(CART_POLE["5a"], cells(columns), 0)
    assert row["verdict"] == "missing"
    assert "agent 1, step 500" in row["note"]
    assert row["n_agents"] == 3


def test_a_dropped_agent_is_not_silently_left_out():
    columns = rows(agents=3, step=[500], policy=["mcts", "prior"])
    columns["return"] = np.where(columns["policy"] == "mcts", 10.0, 5.0)
    assert judge(CART_POLE["1 former"], cells(columns, agents=3), 0)["verdict"] == "holds"
    row = judge(CART_POLE["1 former"], cells(columns, agents=4), 0)
    assert row["verdict"] == "missing"
    assert "agent 3" in row["note"]


@pytest.fixture(scope="module")
def run(tiny_study):
    return tiny_study


def test_a_run_is_judged_in_full(run, capsys):
    table = tables.read(run.table_path("claims"))
    assert table["claim"].to_pylist() == list(CART_POLE)
    current = table.filter(pa.array([r == "current" for r in table["reading"].to_pylist()]))
    assert len({name.rstrip("abc") for name in current["claim"].to_pylist()}) == 12
    p = current["p"].to_numpy()
    np.testing.assert_array_equal(current["p_adjusted"], holm(p))
    assert set(table["n_agents"].to_pylist()) == {2}
    assert {"environment", "config", "seed"} <= set(table.column_names)
    cli.main(["claims", str(run.path)])
    shown = capsys.readouterr().out
    for each in CART_POLE.values():
        assert each.text in shown
    page = run.report_path.read_text()
    assert "The paper's claims" in page
    assert table["verdict"].to_pylist()[0] in page
    for words in (page, shown):
        assert "step-down" in words
        assert "9b former" in words


def test_tables_of_an_older_version_are_judged_as_far_as_they_go(run):
    """A column and a policy that older versions did not make: missing, each with what mends it."""
    kept = {name: run.table_path(name).read_bytes() for name in ("figure2", "figure5")}
    path = run.table_path("figure5")
    old = pq.read_table(path).drop_columns(["squared_error", "squared_noise"])
    tables.write(path, old, tables.about(path))
    path = run.table_path("figure2")
    table = pq.read_table(path)
    plain = pa.array([policy != "prior_tempered" for policy in table["policy"].to_pylist()])
    tables.write(path, table.filter(plain), tables.about(path))
    rows_ = {row["claim"]: row for row in muscope.judge(run).to_pylist()}
    assert muscope.report(run).exists()
    for name, data in kept.items():
        run.table_path(name).write_bytes(data)
    for name in ("7", "8"):
        assert rows_[name]["verdict"] == "missing"
        assert "figure5 has no column squared_error" in rows_[name]["note"]
        assert rows_[f"{name} former"]["verdict"] != "missing"
    assert rows_["1b"]["verdict"] == "missing"
    assert "policy prior_tempered" in rows_["1b"]["note"]


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
