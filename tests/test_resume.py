"""A run that is killed resumes to the bit-identical result of one that is not."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import muscope
from muscope.errors import CheckpointError, RunError
from muscope.storage import checkpoint
from muscope.training import runner
from muscope.training.population import Population

FLAGS = [
    *("--agents", "2", "--steps", "240", "--train.save-seconds", "0"),
    *("--train.checkpoints", "0", "120", "--train.rounds-per-call", "10"),
    *("--train.lanes", "2", "--train.updates-per-round", "2", "--train.batch-size", "8"),
    *("--network.width", "8", "--network.latent", "8", "--search.simulations", "4"),
    *("--replay.capacity", "256", "--loss.unroll", "3", "--loss.n-step", "3"),
]


def command(out):
    return [sys.executable, "-m", "muscope", "train", "cart-pole", "--out", str(out), *FLAGS]


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
        process = subprocess.Popen(command(out), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        if kills < 3:
            marker = out / "metrics.jsonl"
            lines = len(marker.read_text().splitlines()) if marker.exists() else 0
            # Let it get somewhere new, then kill it in the middle of whatever it does.
            while process.poll() is None:
                now = len(marker.read_text().splitlines()) if marker.exists() else 0
                if now > lines:
                    time.sleep(float(rng.uniform(0, 0.05)))
                    process.kill()
                    break
                time.sleep(0.002)
        if process.wait() == 0:
            break
        assert process.returncode == -signal.SIGKILL, process.stderr.read().decode()
        kills += 1
    assert kills == 3
    assert contents(out) == contents(whole)
    logs = [
        [
            {k: v for k, v in json.loads(x).items() if k != "seconds"}
            for x in f.read_text().splitlines()
        ]
        for f in (out / "metrics.jsonl", whole / "metrics.jsonl")
    ]
    assert logs[0] == logs[1]


def test_an_interrupted_run_saves_and_resumes(whole, tmp_path):
    out = tmp_path / "interrupted"
    process = subprocess.Popen(command(out), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    while not (out / "metrics.jsonl").exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    assert process.wait() == 130
    assert b"the same command resumes" in process.stderr.read()
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
    import dataclasses

    other = dataclasses.replace(tiny, network=dataclasses.replace(tiny.network, width=16))
    wider = muscope.train(other, tmp_path / "other")
    wider.checkpoint_path(24).write_bytes(trained.checkpoint_path(24).read_bytes())
    with pytest.raises(CheckpointError, match=r"this run needs float32"):
        wider.agent(0, 24)


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
