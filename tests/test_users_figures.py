"""Figures of users that fail: one line with the place, and everything else goes on."""

import shutil
import sys
from pathlib import Path

import pytest

import muscope
from muscope import cli
from muscope.errors import ConfigError, FigureError
from muscope.experiments import registry
from muscope.experiments.base import Experiment
from muscope.storage import tables

FIGURE = """
import numpy as np
from matplotlib.figure import Figure
from muscope.claims import Claim
from muscope.experiments import Experiment
from muscope.experiments.view import Lines, View
from muscope.storage.schema import AGENT, STEP, Schema, number

SCHEMA = Schema(NAME, "one row per agent", (AGENT, STEP, number("entropy", "of nothing")))

def run(bench, settings, step):
    RUN
    return {NAME: bench.table(SCHEMA, step, settings, entropy=np.ones((len(bench.agents), 1)))}

def plot(tables):
    PLOT
    return Figure(figsize=(3.5, 2.5))

def caption(tables):
    CAPTION
    return "Nothing."

def view(tables):
    VIEW
    return View((Lines("step", "training steps", {"entropy": "entropy"}),))

def statistic(cells):
    CLAIM
    return cells.mean("entropy", step=cells.positive()).mean(axis=1)

EXPERIMENT = Experiment(
    name=NAME, title="Nothing of one's own", tables=(SCHEMA,), run=run, plot=plot,
    caption=caption, view=view,
    claims=(Claim("own", "It is positive.", "entropy", NAME, statistic),),
)
"""


@pytest.fixture(scope="module")
def studied(tmp_path_factory, module_tiny):
    run = muscope.train(module_tiny, tmp_path_factory.mktemp("figures") / "run")
    muscope.evaluate(run, ["figure2"])
    return run.path


@pytest.fixture
def run(studied, tmp_path, monkeypatch):
    """A trained run with one table; figures that are added are forgotten afterwards."""
    monkeypatch.setattr(registry, "_added", {})
    shutil.copytree(studied, tmp_path / "run")
    return tmp_path / "run"


def written(folder, name, **parts):
    text = FIGURE.replace("NAME", repr(name))
    for part in ("RUN", "PLOT", "CAPTION", "VIEW", "CLAIM"):
        text = text.replace(part, parts.get(part, "pass"))
    (folder / f"figure_{name}.py").write_text(text)
    return f"{folder / f'figure_{name}.py'}:EXPERIMENT"


def place(source, code):
    """FILE:LINE of a statement."""
    file = source.removesuffix(":EXPERIMENT")
    lines = [line.strip() for line in Path(file).read_text().splitlines()]
    return f"({file}:{lines.index(code) + 1})"


def failing(capsys, *arguments):
    with pytest.raises(SystemExit) as stop:
        cli.main([*map(str, arguments)])
    assert stop.value.code == 1
    return capsys.readouterr().err.splitlines()


def test_an_error_in_run_gets_one_line_and_keeps_what_is_there(run, tmp_path, capsys):
    code = "assert step < 20, 'no more'"
    source = written(tmp_path, "late", RUN=code)
    error = failing(capsys, "evaluate", run, "--figures", source)
    assert error == [
        f"muscope: figure 'late': its run failed: AssertionError: no more {place(source, code)}"
    ]
    assert len([*run.glob("cells/late/*.parquet")]) == 2 * 2  # Steps 0 and 8 of two agents.


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("return {}", "did not make its table 'none_made', only []; its run must return"),
        ("return None", "did not make its table 'none_made', only a NoneType"),
        (
            "return bench.table(SCHEMA, step, settings, entropi=0)",
            "has no column entropi; it has agent, step, entropy",
        ),
        (
            "return bench.table(SCHEMA, step, settings)",
            "needs a column entropy; it was given none",
        ),
    ],
)
def test_what_run_should_have_made_is_told(code, message, run, tmp_path, capsys, monkeypatch):
    monkeypatch.delitem(sys.modules, "figure_none_made", raising=False)
    source = written(tmp_path, "none_made", RUN=code)
    (error,) = failing(capsys, "evaluate", run, "--figures", source)
    assert message in error


@pytest.mark.parametrize(
    ("part", "code", "words"),
    [
        ("PLOT", "tables['own_plot']['entropi']", "its plot failed: KeyError: "),
        ("CAPTION", "1 / 0", "its caption failed: ZeroDivisionError: division by zero ("),
        ("VIEW", "tables['nothing']", "its view failed: KeyError: "),
    ],
)
def test_a_report_is_drawn_without_a_figure_that_fails(part, code, words, run, tmp_path, capsys):
    source = written(tmp_path, f"own_{part.lower()}", **{part: code})
    cli.main(["evaluate", str(run), "--figures", source])
    capsys.readouterr()
    (error,) = failing(capsys, "report", run, "--figures", source)
    assert words in error
    assert place(source, code) in error
    assert error.endswith("report.html is written without it.")
    page = (run / "report.html").read_text()
    assert page.count("data:image/svg+xml") == 1
    assert f"Not drawn: figure &#39;own_{part.lower()}&#39;" in page
    assert place(source, code)[1:-1] in page


def test_a_view_that_names_no_column_is_told(run, tmp_path, capsys):
    code = "return View((Lines('stepp', 'training steps', {'entropy': 'entropy'}),))"
    source = written(tmp_path, "own_column", VIEW=code)
    cli.main(["evaluate", str(run), "--figures", source])
    capsys.readouterr()
    (error,) = failing(capsys, "report", run, "--figures", source)
    assert "its view failed: ValueError: table own_column has no column 'stepp'" in error


def test_what_plot_returns_must_be_a_figure(run, tmp_path, capsys):
    source = written(tmp_path, "own_number", PLOT="return 3")
    cli.main(["evaluate", str(run), "--figures", source])
    with pytest.raises(FigureError, match=r"returns a int, not a matplotlib Figure"):
        muscope.report(run)


def test_a_claim_that_fails_is_missing_with_the_reason(run, tmp_path, capsys):
    for name, code, words in (
        ("own_claim", "1 / 0", "ZeroDivisionError: division by zero"),
        ("own_shape", "return 1.0", "ValueError: it gives shape (), not one number per agent"),
    ):
        source = written(tmp_path, name, CLAIM=code)
        cli.main(["evaluate", str(run), "--figures", source])
        row = muscope.judge(run).to_pylist()[-1]
        assert (row["claim"], row["verdict"]) == ("own", "missing")
        assert words in row["note"]
        assert f"its claim own failed: {words}" in capsys.readouterr().err


def test_muscopes_own_errors_keep_their_traceback(run, monkeypatch):
    own = registry.everything()["figure2"]
    monkeypatch.setitem(
        registry._known(), "figure2", own.__class__(**{**vars(own), "plot": lambda given: 1 / 0})
    )
    with pytest.raises(ZeroDivisionError):
        muscope.report(run)


def test_a_figure_that_is_not_named_keeps_its_claims(run, tmp_path, capsys, monkeypatch):
    source = written(tmp_path, "kept")
    cli.main(["evaluate", str(run), "--figures", source])
    cli.main(["claims", str(run), "--figures", source])
    judged = tables.read(run / "tables" / "claims.parquet").to_pylist()
    assert (judged[-1]["claim"], judged[-1]["table"]) == ("own", "kept")
    assert judged[-1]["verdict"] == "inconclusive"  # of two agents
    assert judged[-1]["estimate"] > 0
    monkeypatch.setattr(registry, "_added", {})
    capsys.readouterr()
    cli.main(["claims", str(run)])
    shown = capsys.readouterr()
    assert str(tables.read(run / "tables" / "claims.parquet").to_pylist()) == str(judged)
    assert "It is positive." in shown.out
    (told,) = shown.err.splitlines()
    assert "table kept is not known here, and its claims stay as they were judged" in told
    assert f"--figures {source}" in told
    cli.main(["report", str(run)])
    (told,) = capsys.readouterr().err.splitlines()
    assert "not drawn: table kept" in told
    assert f"--figures {source}" in told
    assert "It is positive." in (run / "report.html").read_text()
    assert str(tables.read(run / "tables" / "claims.parquet").to_pylist()) == str(judged)
    (run / "tables" / "kept.parquet").unlink()
    assert "own" not in muscope.judge(run)["claim"].to_pylist()


def test_an_experiment_without_tables_is_refused():
    with pytest.raises(ConfigError, match=r"empty has no tables; give it one, a Schema"):
        registry.register(Experiment("empty", "Empty", (), *[lambda *_: None] * 3))


def test_claims_stand_alone():
    """Where one of several is left out, the others still say what they mean."""
    for experiment in registry.everything().values():
        for claim in experiment.claims:
            assert claim.text[0].isupper(), claim.text
            assert claim.text.endswith("."), claim.text


def test_agents_are_counted_in_words(run):
    page = muscope.report(run).read_text()
    assert "cart-pole, preset tiny</h1>" in page
    assert "2 agents, 24 training steps each" in page
