"""A study's jobs on real Ray nodes: the same rows as in one process, whatever dies."""

import dataclasses
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from conftest import tiny_config

import muscope
from muscope import jobs
from muscope.config import RayConfig
from muscope.errors import ConfigError, JobError, MuscopeError, RunError
from muscope.experiments import plans as asking
from muscope.experiments import registry
from muscope.storage import tables

pytest.importorskip("ray")
FIGURES = ["figure2", "figure3"]
NODES = Path(__file__).with_name("ray_nodes.py")


def config_of(**train):
    config = tiny_config()
    train = dataclasses.replace(config.train, agents=4, block=2, **train)
    return dataclasses.replace(config, train=train)


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """The same study in this process."""
    return muscope.study(config_of(), tmp_path_factory.mktemp("here") / "run", FIGURES)


class Nodes:
    """A head and two nodes of one core on this machine's loopback."""

    def __init__(self):
        self.process = subprocess.Popen(
            [sys.executable, str(NODES)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.address = self._line()

    def _line(self):
        """The helper's next line; Ray prints some of its own."""
        while line := self.process.stdout.readline():
            if line.strip() == "killed" or (":" in line and line.strip().count(" ") == 0):
                return line.strip()
        raise RuntimeError("the nodes did not start")

    def kill_that_of(self, pid):
        """Kill the node on which a process works."""
        self.process.stdin.write(f"kill {pid}\n")
        self.process.stdin.flush()
        assert self._line() == "killed"

    def stop(self):
        self.process.stdin.close()
        self.process.wait(60)
        self.process.stdout.close()


@pytest.fixture
def nodes():
    started = Nodes()
    yield started
    started.stop()


def assert_equal_tables(run, other):
    for name in FIGURES:
        assert tables.read(run.table_path(name)) == tables.read(other.table_path(name))


def test_two_nodes_give_the_rows_of_one_process(here, nodes, tmp_path):
    options = RayConfig(address=nodes.address)
    run = muscope.study(config_of(), tmp_path / "run", FIGURES, options)
    assert_equal_tables(run, here)
    assert run.report_path.exists()
    logs = {path.stem for path in run.path.glob("logs/*.log")}
    plans = jobs.read(run)
    assert logs == {job.name for job in jobs.jobs(run, plans) if not job.experiment}


def runs_of(run, name):
    """Processes that began a job, and how often it was done, by its log."""
    log = (run / "logs" / f"{name}.log").read_text()
    return [int(pid) for pid in re.findall(r"in process (\d+)", log)], log.count(" done\n")


LONG = {"steps": 480, "checkpoints": (0, 8), "save_seconds": 0.0}


@pytest.fixture(scope="module")
def long_here(tmp_path_factory):
    return muscope.study(config_of(**LONG), tmp_path_factory.mktemp("long") / "run", FIGURES)


def while_training(path, act):
    """Call ``act`` with the process that trains the first block, once it has saved a state."""

    def wait():
        while not (path / "state.safetensors").exists():
            time.sleep(0.01)
        act(runs_of(path, "train-0000-0001")[0][0])

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def test_a_killed_worker_is_tried_again_and_changes_no_row(long_here, nodes, tmp_path, capsys):
    path = tmp_path / "run"
    killer = while_training(path, lambda pid: os.kill(pid, signal.SIGKILL))
    options = RayConfig(address=nodes.address)
    run = muscope.study(config_of(**LONG), path, FIGURES, options)
    killer.join()
    assert_equal_tables(run, long_here)
    said = capsys.readouterr().err
    assert re.search(r"train-0000-0001: its worker died .*tried again \(2 of 3\)", said)
    begun, done = runs_of(path, "train-0000-0001")
    assert (len(begun), done) == (2, 1)
    others = [log.stem for log in path.glob("logs/*.log") if log.stem != "train-0000-0001"]
    assert all((len(runs_of(path, name)[0]), runs_of(path, name)[1]) == (1, 1) for name in others)


def test_a_killed_node_changes_no_row(long_here, nodes, tmp_path, capsys):
    path = tmp_path / "run"
    killer = while_training(path, nodes.kill_that_of)
    run = muscope.study(config_of(**LONG), path, FIGURES, RayConfig(address=nodes.address))
    killer.join()
    assert_equal_tables(run, long_here)
    assert "tried again (2 of 3)" in capsys.readouterr().err


FAILING = """
import dataclasses
from muscope.experiments import online_return


def run(bench, settings, step):
    if step == 8 and 0 in bench.agents:
        raise ValueError("eight is no good")
    return {"mine": online_return.run(bench, settings, step)["figure2"]}


SCHEMA = dataclasses.replace(online_return.SCHEMA, name="mine")
EXPERIMENT = dataclasses.replace(
    online_return.EXPERIMENT, name="mine", tables=(SCHEMA,), run=run, claims=(), number=None,
    settings=dataclasses.make_dataclass(
        "Mine", [], bases=(online_return.OnlineReturn,), frozen=True, namespace={"section": "mine"}
    ),
)
"""


def test_a_job_that_fails_leaves_the_others_alone(here, tmp_path, capsys):
    """On a Ray that is started for the study, with files that travel through it."""
    figure = tmp_path / "eight_is_no_good.py"
    figure.write_text(FAILING)
    name = registry.get(f"{figure}:EXPERIMENT").name
    path = tmp_path / "run"
    with pytest.raises(JobError) as end:
        muscope.study(config_of(), path, [*FIGURES, name], RayConfig(transfer=True))
    failed = "mine-00000008-0000-0001"
    message = str(end.value)
    assert message.startswith("1 of ")
    assert "1 need them" in message
    assert f"{failed} (figure 'mine': its run failed: ValueError: eight is no good" in message
    assert f"muscope job {path} {failed}" in message
    run = muscope.open_run(path)
    assert_equal_tables(run, here)
    assert not run.table_path("mine").exists()
    assert len(list(path.glob("cells/mine/*"))) == 2 * 3 * 2 - 2
    with pytest.raises(MuscopeError, match="eight is no good"):
        jobs.execute_by_name(path, failed)


def test_jobs_are_known_before_any_runs(tiny, tmp_path):
    run = muscope.stages.StudyRun.create(tmp_path / "run", config_of())
    plans = asking.plan(run.subject, run.config.evaluate, run.config.experiments, ["3", "7"])
    listed = jobs.jobs(run, plans)
    names = [job.name for job in listed]
    assert names[:2] == ["train-0000-0001", "train-0002-0003"]
    assert "figure3-00000024-0002-0003" in names
    assert names[-2:] == ["gather-figure3", "gather-figure7"]
    assert len(set(names)) == len(names) == 2 + 2 * 3 + 2 * 1 + 2
    before = set()
    for job in listed:
        assert before.issuperset(job.needs)
        before.add(job.name)
    with pytest.raises(RunError, match=r"has no jobs\.json"):
        jobs.read(run)


def test_a_cluster_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(ConfigError, match=r"there is no Ray cluster at ray.address '127.0.0.1:1'"):
        muscope.study(config_of(), tmp_path / "run", FIGURES, RayConfig(address="127.0.0.1:1"))
