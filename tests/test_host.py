"""The host seam: any simulator that saves and restores its state is an environment."""

import os
import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from host_models import (
    CounterEnvironment,
    CounterMaker,
    FaultyMaker,
    OtherEnd,
    OtherStep,
    PlayingEnvironment,
    WronglyPlayingMaker,
    host_cart_pole,
)

from muscope.config.environment import HostConfig
from muscope.envs import CartPole, CartPoleState, training_view
from muscope.envs.base import Spec, play_out, step_out
from muscope.envs.host import HostEnvironment, Layout
from muscope.envs.simulator import Memo, Simulator, simulator
from muscope.envs.workers import HostStep, Pool, Work
from muscope.errors import ConfigError, HostError
from muscope.evaluation import value_error
from muscope.host_call import host_errors
from muscope.runtime import agents_mesh, map_agents

HERE = HostConfig(workers=1)
THREE = jnp.int32(3)
VIEW = jax.ShapeDtypeStruct((2,), np.float32)


@pytest.fixture
def counter(tmp_path):
    """A counter stepped in this process, with a simulator of its own."""
    return CounterEnvironment(tmp_path, HERE)


@pytest.fixture
def pool(tmp_path):
    pool = Pool(CounterMaker(tmp_path), 2)
    yield pool
    pool.close()


def steps(values, action=1):
    return [Work(int(v).to_bytes(1, "little"), action) for v in values]


def numbers(steps):
    return [int(step.view.count[0]) for step in steps]


def test_gymnasiums_cart_pole_behind_the_seam_equals_the_one_on_the_device():
    """Lock step inside one compiled program, over lanes and agents, to float32 rounding."""
    host, device = host_cart_pole(HERE), CartPole()

    def lane(key):
        start = host.reset(key)
        twin = CartPoleState(start.memory, jnp.array(False))

        def step(carry, action):
            a, b = carry
            moved, twin = host.step(a, action), device.step(b, action)
            apart = jnp.abs(host.observe(moved.state) - device.observe(twin.state)).max()
            same = (moved.reward == twin.reward) & (moved.terminated == twin.terminated)
            return (moved.state, twin.state), (apart, same, moved.terminated)

        actions = jax.random.randint(jax.random.fold_in(key, 1), (60,), 0, 2)
        return jax.lax.scan(step, (start, twin), actions)[1]

    keys = jax.random.split(jax.random.key(0), (2, 8))
    apart, same, terminated = jax.jit(jax.vmap(jax.vmap(lane)))(keys)
    assert same.all()
    assert terminated[..., -1].any()
    assert float(apart.max()) < 1e-4


def test_the_experiments_functions_run_on_a_host_environment():
    host = host_cart_pole(HERE)
    path = jax.jit(lambda s, a: value_error.true_path(host, s, a))(
        host.reset(jax.random.key(1)), jnp.zeros(30, jnp.int32)
    )
    assert path.ended[-1]
    assert not path.ended[0]
    alive = np.asarray(~path.ended)
    np.testing.assert_array_equal(path.reward, alive.astype(np.float32))


def test_a_state_can_be_stepped_again_by_anyone(counter):
    state = counter.reset(jax.random.key(0))
    first = counter.step(state, THREE)
    counter.step(first.state, THREE - 1)
    again = counter.step(jax.tree.map(jnp.array, state), THREE)
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_callback_of_accelerators_gives_the_same(counter, monkeypatch):
    keys = jax.random.split(jax.random.key(0), 3)

    def run():
        states = jax.vmap(counter.reset)(keys)
        return jax.vmap(lambda s: counter.step(s, THREE))(states)

    here = run()
    choose = lambda *inputs, cpu, default: default(*inputs)  # noqa: E731
    monkeypatch.setattr(jax.lax, "platform_dependent", choose)
    for a, b in zip(jax.tree.leaves(here), jax.tree.leaves(run()), strict=True):
        np.testing.assert_array_equal(a, b)


def test_absorbing_states_are_kept_and_not_computed(counter):
    state = counter.reset(jax.random.key(0))
    while not bool(state.terminated):
        state = counter.step(state, THREE).state
    computed = counter.simulator.computed
    moved = counter.step(state, THREE - 1)
    assert float(moved.reward) == 0
    assert bool(moved.terminated)
    assert counter.simulator.computed == computed
    for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(moved.state), strict=True):
        np.testing.assert_array_equal(a, b)


def test_equal_work_is_done_once_and_remembered(tmp_path):
    run = Simulator(CounterMaker(tmp_path), HERE)
    assert numbers(run(steps([1, 2, 1, 1, 2]))) == [2, 3, 2, 2, 3]
    assert run.computed == 2
    run(steps([1, 2, 3]))
    assert run.computed == 3
    forgetful = Simulator(CounterMaker(tmp_path), HostConfig(workers=1, memory_megabytes=0))
    forgetful(steps([1, 1]))
    forgetful(steps([1]))
    assert forgetful.computed == 2


def test_the_memory_is_bounded_and_drops_what_was_not_used():
    def step(size):
        return HostStep(bytes(size), np.zeros(0), 0.0, False)

    memo = Memo(10_000)
    for i in range(100):
        memo.put(i, step(2_000))
        memo.get(0)
        assert memo.used <= memo.size
    assert memo.get(0) is not None
    assert memo.get(97) is None
    assert memo.get(99) is not None
    memo.put("huge", step(20_000))
    assert memo.used == 0


def test_the_training_view_ends_with_a_life_and_the_game_goes_on(counter):
    view = training_view(counter)
    assert view.spec.time_limit == 30
    state = jax.tree.map(jnp.asarray, counter.reset(jax.random.key(0)))
    state = counter.step(state, THREE).state
    value = int(state.memory.count[0])
    moved, game = view.step(state, THREE), counter.step(state, THREE)
    assert value < 5 <= int(moved.state.memory.count[0])
    assert bool(moved.terminated)
    assert not bool(game.terminated)
    assert (float(moved.reward), float(moved.state.points), float(game.reward)) == (1.0, 9.0, 9.0)
    absorbed = view.step(moved.state, THREE)
    assert float(absorbed.reward) == 0
    assert bool(absorbed.terminated)
    assert int(absorbed.state.memory.count[0]) == int(moved.state.memory.count[0])
    resumed = view.resume(moved.state).state
    assert not bool(resumed.terminated)
    assert (
        int(view.step(resumed, THREE).state.memory.count[0]) == int(moved.state.memory.count[0]) + 3
    )


def test_large_states_of_two_devices_at_once_do_not_hang(tmp_path):
    """Hundreds of kilobytes per call, where jax.pure_callback waits for itself on the CPU."""
    counter = CounterEnvironment(tmp_path, HERE)
    counter.layout = counter.layout._replace(snapshot_bytes=20_000)
    mesh = agents_mesh(2)
    assert mesh.size == 2

    def agent(key):
        states = jax.vmap(counter.reset)(jax.random.split(key, 64))

        def body(states, _):
            moved = jax.vmap(lambda s: counter.step(s, jnp.int32(1)))(states)
            return moved.state, moved.reward

        return jax.lax.scan(body, states, None, length=20)[1]

    rewards = map_agents(agent, mesh, per_agent=1)(jax.random.split(jax.random.key(0), 2))
    assert rewards.shape == (2, 20, 64)


def test_results_do_not_depend_on_the_number_of_workers(tmp_path):
    def work_of(workers):
        pool = Pool(CounterMaker(tmp_path), workers)
        try:
            return numbers(pool.map([*steps(range(19)), Work(None, 2)]))
        finally:
            pool.close()

    assert work_of(1) == work_of(2) == work_of(3) == [*range(1, 20), 2]


def test_a_worker_that_is_killed_is_replaced_and_its_work_repeated(pool, tmp_path):
    pool.map(steps(range(4)))
    victim = pool.pids[0]
    os.kill(victim, signal.SIGKILL)
    assert numbers(pool.map(steps(range(10)))) == list(range(1, 11))
    assert victim not in pool.pids
    (tmp_path / "once").touch()
    assert numbers(pool.map(steps(range(10)))) == list(range(1, 11))
    assert not (tmp_path / "once").exists()


def test_work_that_keeps_killing_workers_ends_in_one_clear_error(pool, tmp_path):
    (tmp_path / "always").touch()
    with pytest.raises(HostError, match=r"died 4 times .* exit status -9"):
        pool.map(steps(range(10)))
    (tmp_path / "always").unlink()
    assert numbers(pool.map(steps([6]))) == [7]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_simulators_own_error_is_passed_on(tmp_path, workers):
    pool = Pool(CounterMaker(tmp_path), workers)
    (tmp_path / "fail").touch()
    with pytest.raises(HostError, match="the counter is stuck"):
        pool.map(steps([6]))
    pool.close()


def test_a_compiled_programs_callback_raises_the_hosts_error(counter, tmp_path):
    (tmp_path / "fail").touch()
    state = counter.reset(jax.random.key(0))
    state = state._replace(snapshot=state.snapshot.at[0].set(6), length=jnp.int32(1))
    with pytest.raises(HostError, match="the counter is stuck"), host_errors():
        jax.block_until_ready(jax.jit(counter.step)(state, THREE))


def test_a_model_that_workers_cannot_import_is_refused():
    with pytest.raises(HostError, match="importable module"):
        Pool(lambda: None, 2)


def test_workers_end_when_the_pool_is_closed(pool):
    pool.map(steps([1]))
    pids = pool.pids
    pool.close()
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_workers_end_when_their_parent_is_killed(tmp_path):
    program = (
        f"import sys; sys.path[:] = {sys.path!r}\n"
        "from host_models import CounterMaker\n"
        "from muscope.envs.workers import Pool, Work\n"
        f"from pathlib import Path; pool = Pool(CounterMaker(Path({str(tmp_path)!r})), 2)\n"
        "pool.map([Work(b'a', 1)]); print(*pool.pids, flush=True); input()\n"
    )
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", program], stdin=pipe, stdout=pipe) as parent:
        pids = [int(word) for word in parent.stdout.readline().split()]
        parent.kill()
    deadline = time.monotonic() + 20
    while any(_alive(pid) for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().split()[2] != "Z"
    except FileNotFoundError:
        return False


def test_environments_of_one_model_share_their_workers(tmp_path):
    a, b = (CounterEnvironment(tmp_path, HERE) for _ in range(2))
    assert a.simulator is b.simulator is simulator(CounterMaker(tmp_path), HERE)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("counts resets", "the reset to start 0 gave another observation and snapshot"),
        ("differs by process", "step 1 from start 0 gave another reward when"),
        (
            "seldom random",
            "gave another observation and snapshot when it was repeated; it is random",
        ),
        ("tires", r"step \d from start 0 gave another reward when"),
        ("ends at times", r"step \d from start 0 gave another end when"),
        ("stamps", "step 1 from start 0 gave another snapshot when"),
        ("fails", "the model of 'faulty' failed when it was tried: ValueError: stuck"),
    ],
)
def test_a_model_that_cannot_be_the_truth_is_refused(fault, message):
    spec, layout = Spec("faulty", 2, (2,), 10), Layout(2, VIEW, starts=3)
    with pytest.raises(ConfigError, match=message) as caught:
        HostEnvironment(spec, FaultyMaker(fault), layout, HERE)
    assert "\n" not in str(caught.value)


def test_a_model_without_fault_passes_and_must_fit_its_layout():
    spec, maker = Spec("faulty", 2, (2,), 10), FaultyMaker("none")
    HostEnvironment(spec, maker, Layout(2, VIEW, starts=3), HERE)
    wrong = Layout(2, jax.ShapeDtypeStruct((), np.float32), starts=3)
    with pytest.raises(ConfigError, match="its layout says"):
        HostEnvironment(spec, maker, wrong, HERE)


@pytest.mark.parametrize(
    ("kind", "training", "in_one_go"),
    [
        (CounterEnvironment, True, False),
        (PlayingEnvironment, False, True),
        (PlayingEnvironment, True, True),
        (OtherEnd, False, True),
        (OtherEnd, True, False),
        (OtherStep, False, False),
    ],
)
def test_a_model_plays_by_itself_only_where_it_knows_steps_and_ends(
    tmp_path, kind, training, in_one_go
):
    environment = kind(tmp_path, HERE)
    (tmp_path / "played").unlink(missing_ok=True)  # The trial has tried it.
    environment = environment.training() if training else environment
    states = jax.vmap(environment.reset)(jax.random.split(jax.random.key(0), 8))
    actions = jax.random.randint(jax.random.key(1), (8, 12), 0, 4)
    lengths = jnp.arange(8) + 4
    played, stepped = (
        jax.vmap(lambda *x, f=f: f(environment, *x))(states, actions, lengths)
        for f in (play_out, step_out)
    )
    np.testing.assert_array_equal(played, stepped)
    assert float(played.sum()) > 0
    assert (tmp_path / "played").exists() == in_one_go


def test_a_model_whose_play_differs_from_its_steps_is_refused(tmp_path):
    spec, layout = Spec("counter", 4, (1,), 50), CounterEnvironment(tmp_path, HERE).layout
    with pytest.raises(ConfigError, match=r"play that gives the rewards .* where its steps give"):
        HostEnvironment(spec, WronglyPlayingMaker(tmp_path), layout, HERE)
