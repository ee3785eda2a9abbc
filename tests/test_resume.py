"""A run that is killed resumes to the bit-identical result of one that is not."""

import dataclasses
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import muscope
from muscope.errors import CheckpointError, ConfigError, RunError
from muscope.storage import checkpoint, metrics
from muscope.training import runner
from muscope.training.population import Population

FLAGS = [
    *("--agents", "2", "--steps", "240"),
    *("--train.checkpoints", "0", "120", "--train.rounds-per-call", "10"),
    *("--train.lanes", "2", "--train.updates-per-round", "2", "--train.batch-size", "8"),
    *("--network.width", "8", "--network.latent", "8", "--search.simulations", "4"),
    *("--replay.capacity", "256", "--loss.unroll", "3", "--loss.n-step", "3"),
]

ALWAYS = ("--train.save-seconds", "0")


def command(out, *more):
    arguments = ["train", "cart-pole", "--out", str(out), *FLAGS, *more]
    return [sys.executable, "-m", "muscope", *arguments]


def start(out, *more):
    return subprocess.Popen(command(out, *more), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def _lines(path):
    return len(path.read_text().splitlines()) if path.exists() else 0


def contents(run):
    return {p.name: p.read_bytes() for p in sorted((run / "checkpoints").glob("*.safetensors"))}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "run"
    subprocess.run(command(out), check=True, capture_output=True)
    return out


def test_sigkill_at_random_moments_changes_no_bit(whole, tmp_path):
    out = tmp_path / "killed"
    rng = np.random.default_rng(0)
    kills = 0
    for _ in range(12):
        marker = out / "metrics.jsonl"
        lines = _lines(marker)
        with start(out, *ALWAYS) as process:
            # Let it get somewhere new, then kill it in the middle of whatever it does.
            while process.poll() is None and kills < 3:
                if _lines(marker) > lines:
                    time.sleep(float(rng.uniform(0, 0.05)))
                    process.kill()
                    break
                time.sleep(0.002)
            _, errors = process.communicate()
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, errors
        kills += 1
    assert kills == 3
    assert contents(out) == contents(whole)
    logs = [
        [{k: v for k, v in x.items() if k != "seconds"} for x in metrics.read(f).entries]
        for f in (out / "metrics.jsonl", whole / "metrics.jsonl")
    ]
    assert logs[0] == logs[1]


def test_a_kill_long_after_the_last_saved_state_changes_no_bit(whole, tmp_path):
    """States are saved at checkpoints only: work and log lines since the last are lost."""
    out = tmp_path / "killed"
    with start(out, "--train.save-seconds", "1e6") as process:
        while process.poll() is None:
            log = out / "metrics.jsonl"
            if log.exists() and '"step": 160' in log.read_text():
                process.kill()
            time.sleep(0.001)
    assert process.returncode == -signal.SIGKILL
    assert (out / "state.safetensors").exists()
    # What a killed writer leaves behind must not be in the way.
    (out / ".state.safetensors.1.tmp").write_bytes(b"half")
    subprocess.run(command(out, "--train.save-seconds", "1e6"), check=True, capture_output=True)
    assert contents(out) == contents(whole)
    assert not list(out.rglob(".*.tmp"))


def test_an_interrupted_run_saves_and_resumes(whole, tmp_path):
    out = tmp_path / "interrupted"
    with start(out) as process:
        while not (out / "metrics.jsonl").exists():
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate()
    assert process.returncode == 130
    assert b"the same command resumes" in errors
    assert (out / "state.safetensors").exists()
    subprocess.run(command(out), check=True, capture_output=True)
    assert contents(out) == contents(whole)


def test_a_finished_run_is_left_alone(tiny, tmp_path):
    run = muscope.train(tiny, tmp_path / "run")
    stamps = {p: p.stat().st_mtime_ns for p in run.path.rglob("*.safetensors")}
    muscope.train(tiny, tmp_path / "run")
    assert {p: p.stat().st_mtime_ns for p in run.path.rglob("*.safetensors")} == stamps
    assert run.steps() == (0, 8, 24)
    assert not run.state_path.exists()


def test_two_processes_cannot_train_one_run(tiny, tmp_path):
    run = muscope.stages.StudyRun.create(tmp_path / "run", tiny)
    run.path.mkdir()
    with run.lock(), pytest.raises(RunError, match="in use"):
        runner.train(run)


@pytest.fixture
def trained(tiny, tmp_path):
    return muscope.train(tiny, tmp_path / "run")


def test_a_checkpoint_describes_itself(trained, tiny):
    header = checkpoint.read_header(trained.checkpoint_path(8), checkpoint.AGENTS_FORMAT)
    assert header["step"] == 8
    assert header["config"]["network"]["width"] == tiny.network.width
    assert header["versions"]["muscope"] == muscope.__version__


def begun(run):
    """A training of the run at its beginning."""
    return runner._Training(run, run.blocks()[0], Population(run.config))


@pytest.mark.parametrize("damage", ["cut", "flipped", "foreign", "empty", "missing", "kind"])
def test_a_damaged_or_foreign_checkpoint_is_refused(trained, damage):
    path = trained.checkpoint_path(24)
    data = path.read_bytes()
    if damage == "cut":
        path.write_bytes(data[: len(data) // 2])
    elif damage == "flipped":
        path.write_bytes(data[:-3] + bytes([data[-3] ^ 1]) + data[-2:])
    elif damage == "foreign":
        import safetensors.numpy

        path.write_bytes(safetensors.numpy.save({"x": np.zeros(3, np.float32)}))
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "missing":
        path.unlink()
    else:
        population = Population(trained.config)
        checkpoint.write(
            path, population.initial(), kind=checkpoint.STATE_FORMAT, step=24, config={}
        )
    with pytest.raises((CheckpointError, RunError), match=str(trained.path)):
        trained.agent(0, 24)


def test_a_checkpoint_of_another_network_is_refused(trained, tiny, tmp_path):
    other = dataclasses.replace(tiny, network=dataclasses.replace(tiny.network, width=16))
    wider = muscope.train(other, tmp_path / "other")
    wider.checkpoint_path(24).write_bytes(trained.checkpoint_path(24).read_bytes())
    with pytest.raises(CheckpointError, match=r"this run needs float32"):
        wider.agent(0, 24)


def test_a_checkpoint_of_another_run_or_step_is_refused(trained, tiny, tmp_path):
    other = dataclasses.replace(tiny, train=dataclasses.replace(tiny.train, seed=1))
    stranger = muscope.train(other, tmp_path / "stranger")
    for data in (
        stranger.checkpoint_path(24).read_bytes(),
        trained.checkpoint_path(8).read_bytes(),
    ):
        trained.checkpoint_path(24).write_bytes(data)
        with pytest.raises(CheckpointError, match="another run or training step"):
            trained.agent(0, 24)


def test_the_digest_covers_the_header(trained):
    path = trained.checkpoint_path(24)
    data = path.read_bytes()
    assert data.count(b'\\"step\\": 24') == 1
    path.write_bytes(data.replace(b'\\"step\\": 24', b'\\"step\\": 23'))
    with pytest.raises(CheckpointError, match="damaged"):
        trained.agent(0, 24)


def test_a_state_of_other_versions_is_refused(trained, monkeypatch):
    training = begun(trained)
    trained.checkpoint_path(24).unlink()
    monkeypatch.setattr(checkpoint, "versions", lambda: {"muscope": "0", "jax": "0"})
    training._write_state(trained.state_path)
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match="install those versions"):
        runner.train(trained)


def test_a_lost_checkpoint_is_made_again(trained):
    """Without a state the run starts over, and ends with the same bits."""
    before = contents(trained.path)
    trained.checkpoint_path(8).unlink()
    runner.train(trained)
    assert contents(trained.path) == before


def test_a_state_newer_than_a_missing_checkpoint_is_not_used(trained, capsys):
    before = contents(trained.path)
    training = begun(trained)
    training.rounds = 20
    training._write_state(trained.state_path)
    trained.checkpoint_path(8).unlink()
    runner.train(trained)
    assert "starting over" in capsys.readouterr().err
    assert contents(trained.path) == before
    assert not trained.state_path.exists()


def test_settings_that_cannot_be_built_leave_nothing_behind(tiny, tmp_path):
    for change in ({"kind": "mpl"}, {"input_scale": (1.0,)}):
        wrong = dataclasses.replace(tiny, network=dataclasses.replace(tiny.network, **change))
        with pytest.raises(ConfigError, match=r"Known: mlp|Did you mean 'mlp'|1 factors for 4"):
            muscope.train(wrong, tmp_path / "run")
        assert not (tmp_path / "run").exists()


def test_a_run_killed_while_it_was_created_can_be_started_again(tiny, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".lock").touch()
    (tmp_path / "run" / ".config.json.77.tmp").write_bytes(b"{")
    assert muscope.train(tiny, tmp_path / "run").steps() == (0, 8, 24)


def test_a_damaged_state_is_refused_and_nothing_is_lost(trained):
    trained.checkpoint_path(24).unlink()
    trained.state_path.write_bytes(b"not a state")
    before = contents(trained.path)
    with pytest.raises(CheckpointError, match=r"state\.safetensors"):
        runner.train(trained)
    assert contents(trained.path) == before


def test_a_write_that_dies_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    checkpoint.write_atomically(path, b"old")

    def dies(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", dies)
    with pytest.raises(OSError, match="no space"):
        checkpoint.write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
