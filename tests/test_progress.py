"""What a long job says where there is no terminal."""

import time

from muscope import progress


def worked(seconds):
    with progress.progress("training", 100, "step", done=10) as bar:
        bar.set_description_str("figure4", refresh=False)
        for _ in range(9):
            time.sleep(seconds)
            bar.update(10)
            bar.set_postfix({"return": 5}, refresh=False)


def test_a_long_job_writes_lines_into_a_log(monkeypatch, capsys):
    monkeypatch.setattr(progress, "SECONDS", 0.05)
    worked(0.02)
    lines = capsys.readouterr().err.splitlines()
    assert 2 <= len(lines) <= 9
    assert all(line.startswith("muscope: figure4: ") and "\r" not in line for line in lines)
    assert " of 100 step, 00:00 gone, " in lines[0]
    assert lines[0].endswith("return=5")
    assert lines[-1].startswith("muscope: figure4: 100 of 100 step")


def test_a_short_one_writes_none(capsys):
    worked(0.0)
    assert capsys.readouterr().err == ""
