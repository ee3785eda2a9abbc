"""What is around muscope may be wrong: one line then says what, and what to do about it."""

import dataclasses
import errno
import fcntl
import os
import signal
import subprocess
import sys
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from host_models import CounterMaker, QuittingMaker

import muscope
from muscope import cli, exits, memory, runtime
from muscope.envs import workers
from muscope.envs.workers import Pool, Work
from muscope.errors import ConfigError, HostError, MemoryShortage, RunError
from muscope.experiments import registry
from muscope.host_call import host_call, host_errors
from muscope.storage import checkpoint
from muscope.storage.folder import Folder
from muscope.training import runner
from muscope.training.agent import RoundMetrics
from muscope.training.population import Population

OUT_OF_MEMORY = (
    jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 80000000 bytes."),
    jax.errors.JaxRuntimeError("INTERNAL: LLVM compilation error: Cannot allocate memory"),
    jax.errors.JaxRuntimeError("INTERNAL: CUDA_ERROR_OUT_OF_MEMORY: out of memory"),
    MemoryError("Unable to allocate 7.45 GiB for an array"),
)
ENDLESS = "jax.jit(lambda x: jax.lax.while_loop(lambda _: True, lambda y: y + 1, x))(1)"
"""Compiled code that never returns; Python's signal handlers wait for it."""


def run(arguments, **environment):
    """A process with some environment variables."""
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=120,
    )


def raises(error):
    """A function that does nothing else."""

    def fails(*_):
        raise error

    return fails


def one_line(text):
    """A message's only line."""
    (line,) = text.splitlines()
    assert line.startswith("muscope: ")
    return line


@pytest.fixture(scope="module")
def trained(module_tiny, tmp_path_factory):
    return muscope.train(module_tiny, tmp_path_factory.mktemp("trained") / "run")


# JAX's set-up.


def test_float64_is_refused_before_anything_is_written(tiny, tmp_path, capsys):
    with jax.enable_x64(True):
        with pytest.raises(ConfigError, match="unset JAX_ENABLE_X64"):
            muscope.train(tiny, tmp_path / "run")
        with pytest.raises(SystemExit) as stop:
            cli.main(["train", "cart-pole", "--out", str(tmp_path / "run")])
    assert stop.value.code == 1
    assert "float32" in one_line(capsys.readouterr().err)
    assert not (tmp_path / "run").exists()


def test_a_platform_that_is_not_there_is_named(tmp_path):
    study = ["-m", "muscope", "study", "cart-pole", "--out", str(tmp_path / "run")]
    done = run(study, JAX_PLATFORMS="nonsense")
    assert done.returncode == 1
    line = one_line(done.stderr)
    assert "JAX_PLATFORMS=nonsense" in line
    assert "not in the list of known backends" in line
    assert not (tmp_path / "run").exists()


def test_help_starts_no_device():
    assert run(["-m", "muscope", "study", "cart-pole", "--help"], JAX_PLATFORMS="no").stderr == ""


def test_a_missing_cuda_device_is_said_though_jax_says_nothing(trained, monkeypatch):
    monkeypatch.setattr(jax, "devices", raises(AssertionError()))
    with pytest.raises(ConfigError, match=r"cannot start .*: there is no such device; "):
        runtime.start()
    with pytest.raises(ConfigError, match="there is no such device"):
        muscope.report(trained)


# Memory.


def test_real_allocations_that_fail_are_said():
    much = (10**7, 10**7)
    for allocate in (jnp.zeros, np.zeros):
        with (
            pytest.raises(MemoryShortage, match=r"^a test ran out of memory \(.*\); lower it\.$"),
            memory.said_if_short("a test", "lower it"),
        ):
            jax.block_until_ready(allocate(much))


def test_other_errors_are_not_called_a_lack_of_memory():
    with pytest.raises(ZeroDivisionError), memory.said_if_short("a test", "lower it"):
        raise ZeroDivisionError
    other = jax.errors.JaxRuntimeError("INVALID_ARGUMENT: something else")
    with (
        pytest.raises(jax.errors.JaxRuntimeError, match="something else"),
        memory.said_if_short("a test", "lower it"),
    ):
        raise other


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=str)
def test_training_without_memory_names_the_settings_to_lower(error, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "_Training", raises(error))
    with pytest.raises(MemoryShortage, match=r"^training ran .*lower train\.agents") as caught:
        muscope.train(tiny, tmp_path / "run")
    assert len(str(caught.value).splitlines()) == 1


def test_evaluation_without_memory_names_the_figure(trained, monkeypatch):
    experiment = registry.get("figure3")
    short = dataclasses.replace(experiment, run=raises(OUT_OF_MEMORY[0]))
    monkeypatch.setattr(registry, "chosen", lambda _: [short])
    with pytest.raises(MemoryShortage, match=r"^figure3 at training step \d+ ran .*lower eval"):
        muscope.evaluate(trained, ["figure3"])


@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt])
def test_what_the_host_raises_in_compiled_code_keeps_its_class(error):
    def fails(outputs, x):
        raise error("on the host")

    def call(x):
        return host_call(fails, jax.ShapeDtypeStruct((), np.float32), x)

    with pytest.raises(error, match="on the host"), host_errors():
        jax.block_until_ready(jax.jit(call)(jnp.float32(1)))


def test_where_memory_is_not_told_nothing_is_refused(tiny, tmp_path, monkeypatch):
    monkeypatch.delattr(os, "sysconf")
    monkeypatch.setattr(memory, "LIMIT", tmp_path / "none")
    assert "this machine's memory" in Population(tiny).refuse_what_does_not_fit()


# Worker processes.


class Unpicklable:
    """A maker that says why it cannot be sent."""

    def __call__(self): ...

    def __reduce__(self):
        raise ValueError("it holds an open socket")


NO_WORKER = raises(AssertionError("a worker was started"))


def test_a_maker_that_cannot_be_pickled_is_refused_before_a_worker_starts(monkeypatch):
    monkeypatch.setattr(workers, "_Worker", NO_WORKER)
    with pytest.raises(HostError, match=r"open socket.*host\.workers to 1") as caught:
        Pool(Unpicklable(), 2)
    assert "\n" not in str(caught.value)


def test_a_maker_of_the_started_script_is_refused_before_a_worker_starts(monkeypatch):
    monkeypatch.setattr(workers, "_Worker", NO_WORKER)
    monkeypatch.setattr(Unpicklable, "__module__", "__main__")
    monkeypatch.setattr(Unpicklable, "__reduce__", object.__reduce__)
    monkeypatch.setattr(sys.modules["__main__"], "Unpicklable", Unpicklable, raising=False)
    with pytest.raises(HostError, match="defined in the script that was started"):
        Pool(Unpicklable(), 2)


def test_what_a_worker_raises_while_it_starts_is_shown():
    with pytest.raises(HostError, match=r"SystemExit: cannot go on \(host_models\.py") as caught:
        Pool(QuittingMaker(), 2).map([Work(None, 0)] * 4)
    assert "\n" not in str(caught.value)
    assert "Traceback" in str(caught.value.__cause__)


def test_a_worker_that_cannot_import_muscope_says_why(tmp_path, monkeypatch, capfd):
    (tmp_path / "muscope").mkdir()
    (tmp_path / "muscope" / "__init__.py").write_text("raise ImportError('a broken installation')")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    with pytest.raises(HostError, match="a broken installation"):
        Pool(CounterMaker(tmp_path), 2).map([Work(None, 0)] * 4)
    assert capfd.readouterr().err == ""


def test_a_simulators_error_takes_one_line(tmp_path):
    pool = Pool(CounterMaker(tmp_path), 2)
    (tmp_path / "fail").touch()
    with pytest.raises(HostError, match=r"ValueError: the counter is stuck") as caught:
        pool.map([Work(b"\x06", 1)])
    pool.close()
    assert "\n" not in str(caught.value)


def test_a_system_without_worker_processes_is_told_to_use_none(tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "HAS_WORKERS", False)
    with pytest.raises(HostError, match=r"set environment\.options\.host\.workers to 1"):
        Pool(CounterMaker(tmp_path), 2)


# Disks.


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EACCES, errno.EROFS])
def test_a_write_that_fails_names_the_file_and_the_mend(number, tmp_path, monkeypatch, capsys):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    monkeypatch.setattr(os, "fsync", raises(OSError(number, os.strerror(number))))
    with pytest.raises(SystemExit) as stop, exits.in_one_line():
        checkpoint.write_atomically(path, b"new")
    assert stop.value.code == 1
    line = one_line(capsys.readouterr().err)
    assert line == f"muscope: {path}: {os.strerror(number)}; {exits.MENDS[number]}."
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_a_full_disk_is_named_by_the_training_log():
    metrics = RoundMetrics(*(np.zeros(2) for _ in RoundMetrics._fields[:-1]), {})
    with pytest.raises(OSError, match="No space left on device: '/dev/full'"):
        runner._log(runner.Path("/dev/full"), metrics, 1, 1, 0.0)


def test_a_lock_that_the_file_system_refuses_names_its_file(tmp_path, monkeypatch):
    refusal = OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
    monkeypatch.setattr(fcntl, "flock", raises(refusal))
    with pytest.raises(OSError, match=r"\.lock'$"), Folder(tmp_path).lock():
        raise AssertionError("it was locked")


# Pipes.


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_has_seen_enough_ends_the_command_without_a_word(unbuffered):
    process = subprocess.Popen(
        [sys.executable, "-m", "muscope", "study", "cart-pole", "--help"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
    )
    process.stdout.close()
    with process:
        assert process.stderr.read() == b""
    assert process.returncode == 1


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_an_output_that_cannot_be_written_is_said_once():
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "muscope", "--version"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": ""},
        )
    assert done.returncode == 1
    assert "standard output: No space left" in one_line(done.stderr)


# Ctrl-C.


def test_ctrl_c_while_imports_run(tmp_path):
    (tmp_path / "tyro.py").write_text(
        "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(9)"
    )
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    done = run(["-m", "muscope", "--version"], PYTHONPATH=path)
    assert done.returncode == 130
    assert "stopped" in one_line(done.stderr)


def interrupted(block, *moments):
    """A process whose block runs compiled code without end, and gets SIGINT at some moments."""
    code = (
        "import os, signal, sys, threading, jax\n"
        "from muscope import exits\n"
        "from muscope.training import runner\n"
        "interrupt = lambda: os.kill(os.getpid(), signal.SIGINT)\n"
        f"for moment in {moments}: threading.Timer(moment, interrupt).start()\n"
        f"with {block}:\n    jax.block_until_ready({ENDLESS})\n"
    )
    return run(["-c", code])


def test_ctrl_c_while_compiled_code_runs():
    done = interrupted("exits.in_one_line()", 1.0)
    assert done.returncode == 130
    assert "stopped; the same command resumes" in one_line(done.stderr)


def test_ctrl_c_in_training_is_answered_at_once_and_a_second_one_obeyed():
    done = interrupted("exits.in_one_line(), runner._stop_requests()", 1.0, 1.5)
    assert done.returncode == 130
    first, second = done.stderr.splitlines()
    assert "stopping after the running call; Ctrl-C once more stops at once" in first
    assert "stopped; the same command resumes" in second


def test_the_process_ends_though_compiled_code_still_runs():
    """Several devices work in threads of their own, which Python's own end would wait for."""
    code = (
        "import jax, sys, muscope.cli, muscope.__main__\n"
        "from muscope.runtime import agents_mesh, map_agents\n"
        "jax.config.update('jax_num_cpu_devices', 2)\n"
        f"endless = map_agents(lambda x: {ENDLESS[:-3]}(x), agents_mesh(2), per_agent=1)\n"
        "muscope.cli.main = lambda: (endless(jax.numpy.zeros(2)), sys.exit(130))\n"
        "muscope.__main__.main()"
    )
    assert run(["-c", code]).returncode == 130


def test_ctrl_c_is_not_lost_where_python_cannot_raise(capsys, monkeypatch):
    monkeypatch.setattr(exits, "PATIENCE", 60.0)

    class Unlucky:
        def __del__(self):
            signal.raise_signal(signal.SIGINT)

    def command():
        Unlucky()
        while time.monotonic() < began + 9:
            pass

    began = time.monotonic()
    with pytest.raises(SystemExit) as stop, exits.in_one_line():
        command()
    assert stop.value.code == 130
    assert time.monotonic() - began < 5
    assert "stopped" in one_line(capsys.readouterr().err)


def test_a_stop_is_answered_once_and_the_second_ctrl_c_stops(capsys):
    def send(number):
        os.kill(os.getpid(), number)
        time.sleep(0.2)

    threads = threading.active_count()
    with runner._stop_requests() as stop:
        send(signal.SIGTERM)
        send(signal.SIGTERM)
        assert set(stop) == {signal.SIGTERM}
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)
    assert capsys.readouterr().err.count("stopping after the running call") == 1
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert threading.active_count() == threads


# Other systems.

ELSEWHERE = """
import os, signal, sys
for name in ("fcntl", "resource", "termios", "pwd", "grp"):
    sys.modules[name] = None
for name in ("sysconf", "sched_getaffinity"):
    delattr(os, name)
for name in ("SIGKILL", "SIGPIPE", "SIGALRM", "SIGHUP", "pthread_sigmask", "sigwait"):
    delattr(signal, name)
import importlib, pkgutil
import muscope
for module in pkgutil.walk_packages(muscope.__path__, "muscope."):
    importlib.import_module(module.name)
import jax
from muscope import memory, runtime
from muscope.errors import RunError
from muscope.storage.folder import Folder
assert runtime.cores() >= 1
assert memory.memory_of(jax.devices()[0])[0] > 0
with Folder(sys.argv[1]).lock():
    try:
        with Folder(sys.argv[1]).lock():
            print("locked twice")
    except RunError as error:
        print(error)
with Folder(sys.argv[1]).lock():
    print("free")
"""


def test_everything_imports_and_locks_where_unix_calls_are_lacking(tmp_path):
    done = run(["-c", ELSEWHERE, str(tmp_path)])
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"{tmp_path} is in use by another process; wait for it or stop it.",
        "free",
    ]


def test_a_lock_ends_with_its_process(tmp_path):
    code = (
        "import sys, time; from muscope.storage.folder import Folder\n"
        "with Folder(sys.argv[1]).lock(): print('held', flush=True); time.sleep(60)"
    )
    arguments = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        with pytest.raises(RunError, match="in use"), Folder(tmp_path).lock():
            pass
        process.kill()
    with Folder(tmp_path).lock():
        assert (tmp_path / ".lock").exists()
