"""The examples run as they are written, and keep to the sizes that the guide promises."""

from pathlib import Path

import pytest

import muscope
from muscope import cli, presets
from muscope.storage import metrics, tables

EXAMPLES = Path(__file__).parent.parent / "examples"
MOST = {
    "key_door": 60,
    "my_net": 60,
    "torch_agent": 40,
    "jax_agent": 40,
    "one_step": 80,
    "my_loss": 50,
}
TINY = [
    *("--train.agents", "2", "--train.steps", "24", "--train.checkpoints", "0"),
    *("--train.lanes", "2", "--train.cold-lanes", "0", "--train.updates-per-round", "2"),
    *("--train.batch-size", "8", "--train.reanalyse-ratio", "1", "--train.rounds-per-call", "4"),
    *("--network.width", "8", "--network.latent", "8", "--search.simulations", "4"),
    *("--replay.start", "16", "--loss.unroll", "3", "--loss.n-step", "3"),
]
QUICK_LOOK = [
    *("--evaluate.episodes", "2", "--evaluate.states", "4", "--figure3.sequences", "3"),
    *("--endings.sequences", "3", "--figure4.horizon", "2", "--figure5.sequences", "3"),
    *("--equivalence.states", "3", "--equivalence.sequences", "2"),
    *("--figure6.simulations", "4", "--figure6.horizon", "4", "--figure7.simulations", "1", "3"),
    *("--figure7.horizon", "4", "--figure7.episodes", "2", "--figure7.steps", "20"),
    *("--decisions.simulations", "3", "--decisions.horizon", "4", "--decisions.q-horizon", "5"),
    *("--decisions.sequences", "3"),
]


def source(name):
    return f"{EXAMPLES}/{name}"


@pytest.mark.parametrize("name", sorted(MOST))
def test_an_example_is_as_short_as_promised(name):
    assert len((EXAMPLES / f"{name}.py").read_text().splitlines()) <= MOST[name]


def test_an_environment_of_ones_own_is_studied(tmp_path, capsys):
    out = tmp_path / "run"
    cli.main(["study", source("key_door.py:KeyDoor"), "--out", str(out), *TINY, *QUICK_LOOK])
    assert (out / "report.html").exists()
    table = tables.read(out / "tables" / "figure2.parquet")
    assert table["environment"][0].as_py() == "key-door"
    assert presets.preset(source("key_door.py:KeyDoor")).train.steps == 2_000
    figure = source("one_step.py:EXPERIMENT")
    cli.main(["evaluate", str(out), "--figures", figure, "--one-step.states", "3"])
    cli.main(["report", str(out)])
    page = (out / "report.html").read_text()
    assert "The next reward" in page
    assert "Rewards of likely actions are known better" in page
    made = tables.read(out / "tables" / "one_step.parquet")
    assert made.num_rows == 2 * 2 * 2
    assert made.schema.field("error").metadata[b"unit"] == b"reward"


def test_a_network_of_ones_own_is_trained(tmp_path):
    flags = ["--network.kind", source("my_net.py:linear"), "--out", str(tmp_path / "run")]
    cli.main(["train", "cart-pole", *flags, *TINY])
    agent = muscope.open_run(tmp_path / "run").agent(0)
    assert agent.search([0.0, 0.0, 0.0, 0.0]).visits.sum() == 4


def test_a_loss_of_ones_own_is_trained(tmp_path, monkeypatch):
    """Under its name in the log, with settings of its own; the run's config knows it from any
    folder.
    """
    monkeypatch.chdir(EXAMPLES.parent)
    flags = ["--loss.terms", "examples/my_loss.py:TERM", "--terms.which_action.weight", "0.5"]
    cli.main(["train", "cart-pole", *flags, "--out", str(tmp_path / "run"), *TINY])
    run = muscope.open_run(tmp_path / "run")
    assert run.config.loss.terms == (source("my_loss.py:TERM"),)
    assert run.config.terms == {"which_action": {"weight": 0.5, "width": 32}}
    told = metrics.read(run.metrics_path).entries[-1]["terms"]["which_action"]
    assert len(told) == 2
    # A guess at one of two actions costs log 2; the root weighs nothing here, the rest 1.
    assert all(0.1 < total / 8 < 1.5 for total in told)
    assert run.agent(0).search([0.0, 0.0, 0.0, 0.0]).visits.sum() == 4


@pytest.mark.parametrize("name", ["jax_agent", "torch_agent"])
def test_an_agent_of_ones_own_is_examined(name, tmp_path, capsys):
    if name == "torch_agent":
        pytest.importorskip("torch")
    out = tmp_path / "mine"
    command = ["examine", source(f"{name}.py:subject"), "--out", str(out), *QUICK_LOOK]
    cli.main(command)
    assert capsys.readouterr().out.strip() == str(out / "report.html")
    stamps = {p: p.stat().st_mtime_ns for p in out.glob("cells/*/*.parquet")}
    made = {path.stem for path in out.glob("tables/*.parquet")}
    assert {"figure2", "figure3", "figure4", "figure5", "figure6", "figure7", "claims"} <= made
    cli.main(command)
    assert {p: p.stat().st_mtime_ns for p in stamps} == stamps
