"""The command line: help, refusals, and a whole study."""

import subprocess
import sys

import pytest

from muscope import cli

TINY = [
    *("--agents", "2", "--steps", "24", "--train.checkpoints", "0", "--train.lanes", "2"),
    *("--train.updates-per-round", "2", "--train.batch-size", "8", "--replay.capacity", "256"),
    *("--network.width", "8", "--network.latent", "8", "--search.simulations", "4"),
    *("--loss.unroll", "3", "--loss.n-step", "3", "--evaluate.episodes", "2"),
    *("--replay.start", "16", "--train.rounds-per-call", "4"),
    *("--evaluate.states", "4", "--figure3.sequences", "3", "--figure4.horizon", "3"),
    *("--endings.sequences", "3", "--figure5.sequences", "3"),
    *("--figure6.simulations", "4", "--figure6.horizon", "4", "--figure7.simulations", "1", "3"),
    *("--figure7.checkpoints", "24", "--figure7.horizon", "4", "--figure7.episodes", "2"),
    *("--decisions.checkpoints", "24", "--decisions.simulations", "3", "--decisions.horizon", "4"),
    *("--decisions.q-horizon", "5", "--decisions.sequences", "3"),
]


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "muscope", *map(str, arguments)], capture_output=True, text=True
    )


def test_a_study_from_the_command_line(tmp_path):
    out = tmp_path / "run"
    done = run("study", "cart-pole", "--out", out, *TINY)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(out / "report.html")
    # No bars where there is no terminal, but a line of progress a minute.
    (line,) = (line for line in done.stderr.splitlines() if " gone, " not in line)
    assert "the heads express rewards up to" in line
    assert (out / "tables" / "figure2.parquet").exists()
    again = run("study", "cart-pole", "--out", out, *TINY, "--seed", "9")
    assert again.returncode == 1
    assert "train.seed (0 != 9)" in again.stderr
    assert len(again.stderr.splitlines()) == 1
    (out / "report.html").unlink()
    assert run("evaluate", out, "--figures", "2").returncode == 0
    assert run("report", out).returncode == 0
    assert (out / "report.html").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["stduy", "cart-pole"], "Did you mean 'study'?"),
        (["study"], "needs ENV first"),
        (["study", "cartpole"], "Did you mean 'cart-pole'?"),
        (["study", "cart-pole", "--preset", "papers"], "Did you mean 'paper'?"),
        (["study", "cart-pole", "--steps", "7"], "not a multiple"),
        (["study", "cart-pole", "--figure4.horizon", "99"], "or equal to 16"),
        (["study", "cart-pole", "--figure7.simulations", "4", "2"], "ascending"),
        (["study", "cart-pole", "--evaluate.checkpoints", "7"], "there are checkpoints at"),
        (["claims", "nowhere"], "no run at nowhere"),
        (["evaluate", "nowhere"], "no run at nowhere"),
        (["report", "nowhere"], "no run at nowhere"),
        (["report", "one", "two"], "needs --out FILE.html"),
        (["train", "cart-pole", "--out", "/dev/null"], "is not a muscope run"),
        (["train", "cart-pole", "--out", "/dev/null/run"], "Not a directory"),
        (["train", "cart-pole", "--network.kind", "mpl"], "unknown network 'mpl'"),
    ],
)
def test_mistakes_get_one_line(arguments, message, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(arguments)
    assert stop.value.code == 1
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--optimiser.lerning-rate", "1"], "Did you mean '--optimiser.learning-rate'?"),
        (["--nonsense"], "Unrecognized options: --nonsense."),
        (["more"], "Unrecognized options: more."),
        (["--train.agents", "x"], "Error parsing --agents/--train.agents: invalid literal"),
        (["--train.agents"], "Expected 1 values"),
        (["--train.temperatures", "1", "2"], "Expected 3 values"),
        (["--search.normalisation", "no"], "Expected one of ('tree', 'siblings')"),
        (["--evaluate.checkpoints", "a\nb"], "Error parsing --evaluate.checkpoints"),
    ],
)
def test_a_bad_flag_is_refused_in_one_line_with_status_2(flags, message, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["study", "cart-pole", *flags])
    assert stop.value.code == 2
    output, error = capsys.readouterr()
    assert output == ""
    assert error.startswith("muscope: ")
    assert message in error
    assert len(error.splitlines()) == 1


def test_help(capsys):
    cli.main(["--help"])
    assert "muscope study ENV" in capsys.readouterr().out
    for command in (
        *(["study", "cart-pole"], ["train"], ["evaluate"], ["evaluate", "nowhere"]),
        *(["report"], ["report", "nowhere"]),
    ):
        with pytest.raises(SystemExit) as stop:
            cli.main([*command, "--help"])
        assert stop.value.code == 0
    text = capsys.readouterr().out
    for flag in ("--preset", "--out", "--agents", "--steps", "--seed", "--search.simulations"):
        assert flag in text
