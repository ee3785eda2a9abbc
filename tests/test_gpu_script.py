"""The script that measures a GPU keeps what it has measured, whatever happens to its parts."""

import importlib.util
import json
import signal
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "gpu.py"
_spec = importlib.util.spec_from_file_location("gpu", SCRIPT)
gpu = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(gpu)


def test_a_part_is_measured_and_written_down(tmp_path):
    out = tmp_path / "gpu.json"
    command = [sys.executable, SCRIPT, "--quick", "--parts", "card", "--out", out]
    subprocess.run(command, check=True, capture_output=True)
    part = json.loads(out.read_text())["parts"]["card"]
    assert part["state"] == "done"
    peaks = gpu._peaks({"card": part})
    assert set(peaks) == {
        "product, default precision",
        "product, highest precision",
        "memory",
    }
    assert all(peak > 0 for peak in peaks.values())


def test_a_failure_is_recorded(tmp_path):
    *_, last = gpu.run("nonsense", 60, True, {})
    assert last["state"] == "failed"
    assert "KeyError: 'nonsense'" in last["errors"]


def test_a_part_that_is_cut_off_leaves_no_process(monkeypatch):
    started, start = [], subprocess.Popen

    def noted(*given, **more):
        started.append(start(*given, **more))
        return started[-1]

    monkeypatch.setattr(gpu.subprocess, "Popen", noted)
    measured = gpu.run("training", 600, True, {})
    assert [next(measured)["state"], next(measured)["state"]] == ["running", "running"]
    measured.close()
    *_, last = gpu.run("training", 0.5, True, {})
    assert last["state"] == "out of time"
    assert last["rows"] == []
    assert [process.returncode for process in started] == [-signal.SIGKILL] * 2


def test_an_unknown_part_is_refused(tmp_path):
    command = [sys.executable, SCRIPT, "--parts", "fly", "--out", tmp_path / "gpu.json"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert "there is no part 'fly'" in done.stderr
    assert not (tmp_path / "gpu.json").exists()
