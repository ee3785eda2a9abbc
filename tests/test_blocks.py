"""A run is made of blocks of agents: it grows, is trained in parts, and parts are merged."""

import dataclasses
import shutil

import jax
import numpy as np
import pytest
from conftest import tiny_config
from test_health import poisoned

import muscope
from muscope import cli
from muscope.errors import CheckpointError, ConfigError, RunError
from muscope.storage import checkpoint, tables
from muscope.storage.block import Block
from muscope.training.population import Population

FIGURES = ["figure2", "figure3"]


def config_of(agents=4, block=2, **train):
    config = tiny_config()
    train = dataclasses.replace(config.train, agents=agents, block=block, **train)
    return dataclasses.replace(config, train=train)


@pytest.fixture(scope="module")
def at_once(tmp_path_factory):
    """Four agents in blocks of two, and two figures of them."""
    run = muscope.train(config_of(), tmp_path_factory.mktemp("once") / "run")
    return muscope.evaluate(run, FIGURES)


def parameters(run):
    return {
        step: [np.asarray(x) for x in jax.tree.leaves(run.subject.load(step))] for step in (8, 24)
    }


def assert_equal_runs(run, other):
    """To the last bit: parameters at all checkpoints, and rows."""
    mine, theirs = parameters(run), parameters(other)
    for step in mine:
        for a, b in zip(mine[step], theirs[step], strict=True):
            np.testing.assert_array_equal(a, b)
    for name in FIGURES:
        assert tables.read(run.table_path(name)) == tables.read(other.table_path(name))


def test_blocks_lie_beside_each_other(at_once):
    first, second = at_once.blocks()
    assert first.path == at_once.path
    assert second.path == at_once.path / "blocks" / "agents-0002-0003"
    assert first.steps() == second.steps() == (0, 8, 24)
    for block in (first, second):
        header = checkpoint.read_header(block.checkpoint_path(24), checkpoint.AGENTS_FORMAT)
        assert header["agents"] == [block.agents.start, 2]
        assert not block.state_path.exists()
    agents = {
        tuple(np.asarray(x).ravel()[:2]) for x in jax.tree.leaves(at_once.subject.load(24))[0]
    }
    assert len(agents) == 4  # All are different.
    assert muscope.report(at_once).exists()


def test_a_finished_run_grows_to_the_bits_of_one_trained_at_once(at_once, tmp_path):
    run = muscope.train(config_of(agents=2, block=0), tmp_path / "run")
    muscope.evaluate(run, FIGURES)
    kept = {p: p.stat().st_mtime_ns for p in run.path.rglob("*") if p.suffix == ".safetensors"}
    kept |= {p: p.stat().st_mtime_ns for p in run.path.glob("cells/*/*")}
    grown = muscope.open_run(run.path)
    grown.config = config_of(agents=4)
    with pytest.raises(RunError, match="has no checkpoint"):
        muscope.evaluate(grown, FIGURES)
    grown = muscope.train(config_of(agents=4), run.path)
    muscope.evaluate(grown, FIGURES)
    assert {p: p.stat().st_mtime_ns for p in kept} == kept
    reopened = muscope.open_run(run.path)
    assert reopened.config.train.agents == 4
    assert_equal_runs(reopened, at_once)
    agent = reopened.agent(index=3)
    assert agent.environment.spec.name == "cart-pole"


def test_parts_trained_in_different_folders_are_merged(at_once, tmp_path):
    for number in (0, 1):
        part = muscope.train(config_of(), tmp_path / f"part-{number}", blocks=[number])
        assert [bool(block.steps()) for block in part.blocks()] == [number == 0, number == 1]
    # What was evaluated of a finished part goes along.
    whole = muscope.merge([tmp_path / "part-1", tmp_path / "part-0"], tmp_path / "whole")
    muscope.evaluate(whole, FIGURES)
    assert_equal_runs(whole, at_once)
    assert not list(tmp_path.glob(".*merging*"))


def test_merged_cells_are_not_computed_twice(at_once, tmp_path):
    two = muscope.train(config_of(agents=2), tmp_path / "two")
    muscope.evaluate(two, FIGURES)
    muscope.train(config_of(), tmp_path / "rest", blocks=[1])
    whole = muscope.merge([tmp_path / "two", tmp_path / "rest"], tmp_path / "whole")
    cells = {p: p.read_bytes() for p in whole.path.glob("cells/*/*")}
    assert len(cells) == 2 * 3 * len(FIGURES)
    stamps = {p: p.stat().st_mtime_ns for p in cells}
    muscope.evaluate(whole, FIGURES)
    assert {p: p.stat().st_mtime_ns for p in cells} == stamps
    assert_equal_runs(whole, at_once)


def test_parts_in_one_folder(at_once, tmp_path):
    for number in (1, 0):
        run = muscope.train(config_of(), tmp_path / "run", blocks=[number])
    muscope.evaluate(run, FIGURES)
    assert_equal_runs(run, at_once)


@pytest.fixture
def part(at_once, tmp_path):
    """The run's second block alone."""
    shutil.copytree(at_once.path, tmp_path / "part")
    for path in (tmp_path / "part" / "checkpoints").iterdir():
        path.unlink()
    return muscope.open_run(tmp_path / "part")


def test_what_does_not_belong_together_is_not_merged(at_once, part, tiny, tmp_path):
    other = muscope.train(config_of(agents=2, seed=5), tmp_path / "other")
    block = part.blocks()[1]
    for runs, message in (
        ([], "nothing to merge"),
        ([at_once, part], r"agent 2 comes twice"),
        ([part], r"agent 0 is in none of the runs"),
        ([other, part], r"trained differently: train.seed \(5 != 0\)"),
    ):
        with pytest.raises(RunError, match=message):
            muscope.merge(runs, tmp_path / "out")
        assert not (tmp_path / "out").exists()
    with pytest.raises(RunError, match="exists"):
        muscope.merge([at_once], other.path)
    block.checkpoint_path(8).unlink()
    with pytest.raises(RunError, match="no checkpoint at step 8"):
        muscope.merge([part], tmp_path / "out")
    block.checkpoint_path(24).write_bytes(b"damaged")
    block.checkpoint_path(8).write_bytes(b"damaged")
    shutil.copytree(at_once.path / "checkpoints", part.path / "checkpoints", dirs_exist_ok=True)
    with pytest.raises(CheckpointError, match="damaged"):
        muscope.merge([part], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_a_run_cannot_become_is_refused(at_once, tmp_path):
    for config, message in (
        (config_of(agents=2), "has 4 agents"),
        (config_of(checkpoints=(0,)), r"can be given more, not fewer"),
        (config_of(steps=48), r"train.steps \(24 != 48\).*prolonged only with"),
        (config_of(block=3), "blocks of 2 agents"),
        (config_of(block=4), "blocks of 2 agents"),
        (config_of(lanes=4), r"train.lanes \(2 != 4\)"),
    ):
        with pytest.raises(RunError, match=message):
            muscope.train(config, at_once.path)
    with pytest.raises(ConfigError, match=r"there is no block 2; the run has 0\.\.1"):
        muscope.train(config_of(), at_once.path, blocks=[2])


def test_further_checkpoints_are_made_on_the_same_way(tmp_path):
    run = muscope.train(config_of(agents=2), tmp_path / "run")
    kept = {p: p.read_bytes() for p in run.path.glob("checkpoints/*")}
    more = muscope.train(config_of(agents=2, checkpoints=(0, 8, 16)), run.path)
    assert more.steps() == muscope.open_run(run.path).steps() == (0, 8, 16, 24)
    assert {p: p.read_bytes() for p in kept} == kept
    with pytest.raises(RunError, match="rounds of a call"):  # It would end calls elsewhere.
        muscope.train(config_of(agents=2, checkpoints=(0, 2, 8, 16)), run.path)


def test_a_steady_training_is_prolonged(tmp_path):
    config = config_of(agents=2, temperatures=(0.5, 0.5, 0.5))
    config = dataclasses.replace(
        config,
        optimiser=dataclasses.replace(config.optimiser, final_fraction=1.0, warmup=4),
        replay=dataclasses.replace(config.replay, importance_exponent=1.0),
    )
    longer = dataclasses.replace(
        config, train=dataclasses.replace(config.train, steps=48, checkpoints=(0, 8, 24))
    )
    run = muscope.train(config, tmp_path / "run")
    kept = {p: p.read_bytes() for p in run.path.glob("checkpoints/*")}
    run = muscope.train(longer, run.path)
    assert run.steps() == (0, 8, 24, 48)
    assert {p: p.read_bytes() for p in kept} == kept
    whole = muscope.train(longer, tmp_path / "whole")
    for a, b in zip(*(jax.tree.leaves(r.subject.load(48)) for r in (run, whole)), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_run_of_before_opens(at_once, tmp_path):
    """Its checkpoints say how many agents there are, and not which."""
    run = muscope.train(config_of(agents=2), tmp_path / "run")
    written = checkpoint.read_header

    for step in run.steps():
        path = run.checkpoint_path(step)
        agents, header = checkpoint.read(path, run.subject._described(2), checkpoint.AGENTS_FORMAT)
        config = header["config"]
        config["train"]["agents"] = 2
        checkpoint.write(path, agents, kind=checkpoint.AGENTS_FORMAT, step=step, config=config)
    assert "agents" not in written(run.checkpoint_path(8), checkpoint.AGENTS_FORMAT)
    assert [block.agents for block in muscope.open_run(run.path).blocks()] == [range(2)]
    grown = muscope.train(config_of(agents=4), run.path)
    muscope.evaluate(grown, ["figure2"])
    for step, leaves in parameters(grown).items():
        for a, b in zip(leaves, parameters(at_once)[step], strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_block_in_anothers_place_is_refused(at_once, tmp_path):
    shutil.copytree(at_once.path, tmp_path / "run")
    run = muscope.open_run(tmp_path / "run")
    first, second = run.blocks()
    shutil.copyfile(first.checkpoint_path(8), second.checkpoint_path(8))
    with pytest.raises(CheckpointError, match=r"holds agents 0\.\.1; its place is for 2\.\.3"):
        run.subject.load(8)


def test_the_command_line_trains_parts_and_merges_them(tmp_path, capsys):
    flags = [
        *("--agents", "4", "--train.block", "2", "--steps", "24", "--train.checkpoints", "0", "8"),
        *("--network.width", "8", "--network.latent", "8", "--search.simulations", "4"),
        *("--replay.capacity", "256", "--replay.start", "16", "--train.lanes", "2"),
        *("--train.updates-per-round", "2", "--train.batch-size", "8"),
        *("--loss.unroll", "3", "--loss.n-step", "3", "--train.reanalyse-ratio", "1"),
    ]
    parts = [str(tmp_path / f"part-{number}") for number in (0, 1)]
    for number, part in enumerate(parts):
        cli.main(["train", "cart-pole", "--out", part, "--blocks", str(number), *flags])
    cli.main(["merge", *parts, "--out", str(tmp_path / "whole")])
    assert capsys.readouterr().out.splitlines()[-1] == str(tmp_path / "whole")
    run = muscope.open_run(tmp_path / "whole")
    assert run.steps() == (0, 8, 24)
    assert [block.agents for block in run.blocks()] == [range(2), range(2, 4)]
    for arguments, message in (
        (["merge", *parts], "needs --out"),
        (["merge", "--out", "x"], "needs RUN first"),
        (["merge", "nowhere", "--out", "x"], "no run at nowhere"),
        (["train", "cart-pole", "--out", parts[0], "--blocks", "one", *flags], "must be numbers"),
        (["train", "cart-pole", "--out", parts[0], "--blocks", "9", *flags], "no block 9"),
    ):
        with pytest.raises(SystemExit) as end:
            cli.main(arguments)
        assert end.value.code == 1
        assert message in capsys.readouterr().err


def test_clearing_up_leaves_alone_what_other_processes_write(tmp_path):
    """Tasks of an array train blocks of one folder at once; each may be in the middle of a save."""
    run = muscope.train(config_of(), tmp_path / "run", blocks=[1])
    first, second = (Block(block.path, block.agents) for block in run.blocks())
    written = {
        "config": [run.path / ".config.json.7.tmp"],
        "first": [first.path / ".state.safetensors.7.tmp", first.path / "checkpoints/.x.7.tmp"],
        "second": [second.path / ".state.safetensors.7.tmp", second.path / ".metrics.jsonl.7.tmp"],
        "run": [run.path / ".report.html.7.tmp", run.path / "cells/figure2/.x.parquet.7.tmp"],
    }

    def left():
        return {name for name, paths in written.items() if all(p.exists() for p in paths)}

    for name, lock in (
        ("config", run.lock("config")),
        ("first", first.training()),
        ("second", second.training()),
        ("run", run.lock()),
    ):
        for path in (path for paths in written.values() for path in paths):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"half")
        with lock:
            assert left() == set(written) - {name}


def test_a_start_of_a_block_that_is_not_there_writes_nothing(tmp_path):
    with pytest.raises(ConfigError, match="no block 9"):
        muscope.train(config_of(), tmp_path / "run", blocks=[9])
    assert not (tmp_path / "run").exists()


def test_a_block_that_diverges_does_not_stop_the_others(tmp_path, monkeypatch):
    monkeypatch.setattr(Population, "initial", poisoned(Population.initial, [0, 1], of=0))
    run = muscope.train(config_of(), tmp_path / "run")
    assert run.steps() == (0, 8, 24)
    muscope.evaluate(run, ["figure2"])
    rows = tables.read(run.table_path("figure2")).to_pylist()
    assert {row["agent"] for row in rows if row["return"] is None} == {0, 1}
