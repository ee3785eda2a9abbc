"""Runs of different seeds as one: a study that is cut in two and pooled is the whole again."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from value_error_by_hand import decode

import muscope
from muscope import cli, envs, statistics
from muscope.agent import TrueModel
from muscope.claims import SCHEMA as CLAIMS
from muscope.errors import RunError
from muscope.storage import tables
from muscope.storage.folder import EXAMINATION, Folder

KEPT = Path(__file__).parents[1] / "docs" / "results" / "cart-pole-quick"
NAMES = ("figure2", "figure3", "figure5", "figure7")
AGENTS = 8


def part(path, first, count, seed, names=NAMES, changed=None, **about):
    """A folder of some agents of a real study, as if they were a run's own."""
    for name in names:
        table = tables.read(KEPT / f"{name}.parquet")
        said = tables.metadata(table.schema)
        table = statistics.rows(table, agent=range(first, first + count))
        whole = json.loads(table["config"][0].as_py())
        whole["train"] |= {"seed": seed, "agents": count}
        whole["loss"] |= changed or {}
        new = {
            "agent": pc.subtract(table["agent"], pa.scalar(first, table["agent"].type)),
            "seed": pa.repeat(pa.scalar(seed, table["seed"].type), len(table)),
            "config": pa.repeat(pa.scalar(json.dumps(whole)), len(table)),
        }
        for column, values in new.items():
            at = table.column_names.index(column)
            table = table.set_column(at, table.schema.field(at), values)
        mark = "\n".join(f"{line} of {first}" for line in said["mark"].splitlines())
        said |= {"agents": str(count), "mark": mark, **about}
        tables.write(path / "tables" / f"{name}.parquet", table, said)
    (path / EXAMINATION).write_text("{}\n")
    return Folder(path)


@pytest.fixture
def two(tmp_path):
    return part(tmp_path / "a", 0, 3, seed=0), part(tmp_path / "b", 3, 5, seed=1)


def test_the_parts_are_the_whole_again(two, tmp_path):
    whole = part(tmp_path / "whole", 0, AGENTS, seed=0)
    muscope.judge(whole)
    pooled = muscope.pool(two, tmp_path / "pooled")
    assert pooled.tables() == (CLAIMS.name, *NAMES)
    for name in NAMES:
        ours, theirs = pooled.table(name), whole.table(name)
        assert tables.origin(pooled.table_path(name)).agents == AGENTS
        for agent in range(AGENTS):
            one, other = (statistics.rows(t, agent=[agent]).to_pydict() for t in (ours, theirs))
            for column in {*one} - {"seed", "config"}:
                for x, y in zip(one[column], other[column], strict=True):
                    assert x == y or np.isnan([x, y]).all(), column
        assert {*ours["seed"].to_pylist()} == {-1}
    ours, theirs = pooled.table(CLAIMS.name), whole.table(CLAIMS.name)
    for column in CLAIMS.names:
        for a, b in zip(ours[column].to_pylist(), theirs[column].to_pylist(), strict=True):
            assert a == b or np.isnan([a, b]).all(), column
    page = pooled.report_path.read_text()
    assert "cart-pole, preset quick" in page
    assert f"muscope pool {two[0].path} {two[1].path} --out {pooled.path}" in page


def test_what_diverged_and_was_clipped_is_told_of_all(tmp_path):
    a = part(tmp_path / "a", 0, 3, 0, ["figure2"], diverged='{"1": 500}', clipped='["this"]')
    b = part(tmp_path / "b", 3, 3, 1, ["figure2"], diverged='{"2": 0}', clipped='["that"]')
    pooled = muscope.pool([a, b], tmp_path / "pooled")
    said = tables.told(pooled.table_path("figure2"))
    assert json.loads(said["diverged"]) == {"1": 500, "5": 0}
    assert json.loads(said["clipped"]) == ["this", "that"]


def test_tables_that_some_lack_are_named_and_left_out(two, tmp_path, capsys):
    c = part(tmp_path / "c", 0, 3, seed=2, names=["figure2", "figure3"], mark="others")
    pooled = muscope.pool([*two, c], tmp_path / "pooled")
    assert pooled.tables() == (CLAIMS.name, "figure2", "figure3")
    assert "left out: figure5, figure7" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"seed": 0}, "have agents in common"),
        ({"changed": {"n_step": 3}}, r"differ in: loss.n_step \(50 != 3\)"),
        ({"training_steps": "20"}, r"differ in: training steps \(10000 != 20\)"),
        ({"names": ["endings"]}, "has no table that all the others have"),
    ],
)
def test_what_does_not_belong_together_is_refused(given, words, tmp_path):
    a = part(tmp_path / "a", 0, 3, seed=0)
    b = part(tmp_path / "b", 3, 3, **{"seed": 1, **given})
    with pytest.raises(RunError, match=words):
        muscope.pool([a, b], tmp_path / "pooled")
    assert not (tmp_path / "pooled").exists()


def test_agents_do_not_come_twice_through_a_pool(two, tmp_path):
    both = muscope.pool(two, tmp_path / "both")
    with pytest.raises(RunError, match="have agents in common"):
        muscope.pool([both, two[1]], tmp_path / "thrice")
    others = part(tmp_path / "others", 0, 3, seed=2, mark="others")
    assert (
        tables.origin(muscope.pool([both, others], tmp_path / "all").table_path("figure2")).agents
        == AGENTS + 3
    )


def test_random_numbers_that_are_shared_are_told(two, tmp_path, capsys):
    muscope.pool(two, tmp_path / "pooled")
    assert "evaluate.seed is 1, 1: agents of equal number share" in capsys.readouterr().err


def test_an_examination_does_not_replace_what_was_pooled(two, tmp_path):
    pooled = muscope.pool(two, tmp_path / "pooled")
    environment = envs.CartPole()
    subject = muscope.subject(TrueModel(environment, decode), environment)
    with pytest.raises(RunError, match="was pooled from runs; choose another --out"):
        muscope.examine(subject, pooled.path, ["figure2"])
    assert pooled.table_path("figure7").exists()


def test_the_command(two, tmp_path, capsys):
    given = ["pool", *(str(each.path) for each in two), "--out", str(tmp_path / "pooled")]
    cli.main(given)
    assert capsys.readouterr().out.strip() == str(tmp_path / "pooled" / "report.html")
    for wrong, words in ((given[:2] + given[3:], "two runs or more"), (given, "exists; choose")):
        with pytest.raises(SystemExit):
            cli.main(wrong)
        assert words in capsys.readouterr().err
