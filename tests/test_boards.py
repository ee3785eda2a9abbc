"""TensorBoard's files hold what metrics.jsonl does; the events are read here by their format."""

import json
import struct
import sys

import numpy as np
import pytest

import muscope
from muscope import cli
from muscope.errors import ConfigError
from muscope.reporting.boards import scalars


@pytest.fixture(scope="module")
def run(tiny_study):
    return tiny_study


def events(folder):
    """(tag, step) to value, and the steps from which on files purge what was before them."""
    event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2")
    found, purged = {}, []
    for path in sorted(folder.glob("events.out.tfevents.*")):
        data, at = path.read_bytes(), 0
        while at < len(data):
            # Its length, a checksum of that, the record, and a checksum of it.
            (length,) = struct.unpack_from("<Q", data, at)
            event = event_pb2.Event.FromString(data[at + 12 : at + 12 + length])
            at += 12 + length + 4
            if event.HasField("session_log") and event.step == 0:
                purged.append(path.name)
            found |= {(v.tag, event.step): v.simple_value for v in event.summary.value}
    return found, purged


def logged(run):
    return [json.loads(line) for line in run.metrics_path.read_text().splitlines()]


def test_every_agents_curves_are_the_logs(run, capsys):
    cli.main(["tensorboard", str(run.path)])
    assert capsys.readouterr().out.strip() == str(run.path / "tensorboard")
    lines = logged(run)
    for agent in range(run.config.train.agents):
        found, _ = events(run.path / "tensorboard" / f"agent-{agent:04d}")
        for line in lines:
            updates, games = line["updates"][agent], line["episodes"][agent]
            for tag, total, count in (
                ("training/value_loss", line["value_loss"][agent], updates),
                ("training/gradient_norm", line["gradient_norm"][agent], updates),
                ("games/score", line["score"][agent], games),
            ):
                shown = found.get((tag, line["step"]))
                assert (shown is None) == (not count)
                if count:
                    np.testing.assert_allclose(shown, total / count, rtol=1e-6)
    assert any(tag == "games/score" for tag, _ in found)
    assert any(tag == "training/policy_loss" for tag, _ in found)


def test_nothing_is_said_of_a_call_without_updates_or_games():
    names = ("policy_loss", "value_loss", "reward_loss", "gradient_norm")
    line = {"step": 8, "seconds": 2.5, "updates": [0, 4], "episodes": [0, 2], "score": [0, 30]}
    line |= {name: [0, 2] for name in names} | {"terms": {"mine": [0, 6]}}
    assert scalars(line, 0) == (8, 2.5, {})
    _, _, values = scalars(line, 1)
    assert values["games/score"] == 15
    assert values["training/term_mine"] == 1.5
    assert values["training/policy_loss"] == 0.5


def test_a_run_is_followed_until_it_is_trained(run, tmp_path, monkeypatch):
    """The log grows between looks, and once it is shorter: a resumed run took lines back."""
    whole = run.metrics_path.read_bytes().splitlines(keepends=True)
    looks = iter([whole[:3], whole[:1], whole])
    missing = iter([(1,), (1,), (1,), ()])

    def next_look(seconds):
        assert seconds == 5.0
        run.metrics_path.write_bytes(b"".join(next(looks)))

    monkeypatch.setattr("muscope.reporting.boards.time.sleep", next_look)
    monkeypatch.setattr(type(run), "missing_steps", lambda self: next(missing))
    run.metrics_path.write_bytes(b"".join(whole[:2]))
    muscope.tensorboard(run, tmp_path / "boards", follow=5.0)
    assert run.metrics_path.read_bytes() == b"".join(whole)
    found, purged = events(tmp_path / "boards" / "agent-0000")
    steps = {step for _, step in found}
    assert steps == {line["step"] for line in logged(run) if line["updates"][0]} | {
        line["step"] for line in logged(run) if line["episodes"][0]
    }
    assert purged  # What was shown before the log was shorter.


@pytest.mark.parametrize(
    "name", ["thesis.tex", "other/events.out.tfevents.1", "agent-0000/notes", "empty/deep"]
)
def test_what_is_not_ours_is_left_alone(run, tmp_path, name):
    muscope.tensorboard(run, tmp_path)
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ConfigError, match="choose another --out"):
        muscope.tensorboard(run, tmp_path)
    assert sorted(tmp_path.rglob("*")) == before


def test_curves_are_written_anew_and_lost_to_nothing(run, tmp_path, monkeypatch):
    for _ in range(2):
        muscope.tensorboard(run, tmp_path)
    (file,) = (tmp_path / "agent-0000").iterdir()
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(ConfigError, match=r"muscope\[tensorboard\]"):
        muscope.tensorboard(run, tmp_path)
    assert file.exists()


def test_damaged_lines_are_told(run, tmp_path, capsys):
    whole = run.metrics_path.read_bytes()
    run.metrics_path.write_bytes(whole + b"{torn")
    muscope.tensorboard(run, tmp_path)
    run.metrics_path.write_bytes(whole)
    assert "1 torn or damaged line(s) of metrics.jsonl are left out" in capsys.readouterr().err


def test_a_run_without_a_log_has_no_curves(run, tmp_path):
    run.metrics_path.rename(tmp_path / "log")
    with pytest.raises(muscope.RunError, match="no training log yet"):
        muscope.tensorboard(run, tmp_path / "boards")
    assert not (tmp_path / "boards").exists()
    (tmp_path / "log").rename(run.metrics_path)
