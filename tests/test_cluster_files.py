"""Files for clusters: every muscope command in them, and on the page about them, can be read."""

import re
import shlex
from pathlib import Path
from types import SimpleNamespace

import pytest

from muscope import cli, pooling, presets, stages, studies

ROOT = Path(__file__).parent.parent
FILES = sorted((ROOT / "examples" / "cluster").iterdir())
PAGE = ROOT / "docs" / "scale.md"


def commands(path):
    """What each muscope command of a file is given, shell variables being 0."""
    text = path.read_text()
    if path == PAGE:
        text = "\n".join(re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE))
    if path.suffix == ".yaml":
        text = re.sub(r"\n +(?=--)", " ", text)  # A folded text is one line.
    text = re.sub(r"\\\n", " ", text)
    text = re.sub(r"\$(\w+|\{\w+\})", "0", text)
    for piece in re.split(r"&&|;|&$|\n", text, flags=re.MULTILINE):
        before, found, rest = piece.lstrip("# ").partition("muscope ")
        if found and re.fullmatch(r"((exec|srun|do|\w+=\S*) )*", before):
            yield shlex.split(rest, comments=True)


def taken(arguments, monkeypatch):
    """The calls that a command makes of the stages, which do nothing."""
    calls = []
    done = SimpleNamespace(
        path=Path("run"), report_path=Path("report"), config=presets.preset("cart-pole")
    )

    def stage(name):
        return lambda *given, **named: calls.append((name, *given)) or done

    monkeypatch.setattr(studies, "study", stage("study"))
    monkeypatch.setattr(pooling, "pool", stage("pool"))
    for name in ("train", "merge", "evaluate", "report", "open_run"):
        monkeypatch.setattr(stages, name, stage(name))
    cli.main(arguments)
    return [call for call in calls if call[0] != "open_run"]


@pytest.mark.parametrize("path", [*FILES, PAGE], ids=lambda p: p.name)
def test_every_command_is_understood(path, monkeypatch):
    found = list(commands(path))
    named = re.findall(r"muscope (?:study|train|merge|pool|evaluate|report) ", path.read_text())
    assert 1 <= len(found) <= len(named)
    assert path == PAGE or len(found) == len(named)
    for arguments in found:
        ((name, *_),) = taken(arguments, monkeypatch)
        assert name == arguments[0]


@pytest.mark.parametrize("name", ["array.sbatch", "apart.sbatch", "train.yaml"])
def test_there_are_as_many_tasks_as_blocks(name, monkeypatch):
    path = ROOT / "examples" / "cluster" / name
    (arguments,) = (a for a in commands(path) if a[0] == "train")
    ((_, config, out, blocks),) = taken(arguments, monkeypatch)
    numbers = re.findall(r"--array=0-(\d+)|completions: (\d+)", path.read_text())
    ((last, completions),) = numbers
    tasks = int(last) + 1 if last else int(completions)
    assert tasks * config.train.block == config.train.agents
    assert blocks == [0]
    assert str(out) in ("runs/paper", "runs/part-0")


def test_a_misspelt_flag_would_be_noticed(monkeypatch, capsys):
    with pytest.raises(SystemExit) as end:
        taken(["train", "cart-pole", "--train.blok", "5"], monkeypatch)
    assert end.value.code == 2
    assert "--train.blok" in capsys.readouterr().err
