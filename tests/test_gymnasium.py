"""``gymnasium:ID`` against Gymnasium itself, and what is refused."""

import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from muscope import envs
from muscope.envs import EnvironmentConfig
from muscope.envs.base import play_out, step_out
from muscope.envs.contract import check
from muscope.envs.gymnasium_model import Game, GameMaker
from muscope.errors import ConfigError

gymnasium = pytest.importorskip("gymnasium")
HERE = {"host": {"workers": 1}}


def made(name, kwargs=None, **options):
    options = {**HERE, "kwargs": json.dumps(kwargs or {}), **options}
    return envs.make(EnvironmentConfig(f"gymnasium:{name}", options=options))


def swing(observation):
    """Acrobot: push with the joint's speed, which brings it over the line."""
    return 2 if observation[5] > 0 else 0


def seen(game, observation):
    """An observation as numbers, by hand."""
    space = game.observation_space
    if isinstance(space, gymnasium.spaces.Discrete):
        return np.eye(space.n, dtype=np.float32)[observation - space.start]
    return np.asarray(observation, np.float32).ravel()


@pytest.mark.parametrize(
    ("name", "kwargs", "episodes"),
    [
        ("Acrobot-v1", {}, 3),
        ("CartPole-v1", {}, 5),
        ("MountainCar-v0", {}, 1),
        ("FrozenLake-v1", {"is_slippery": False}, 10),
    ],
)
def test_episodes_are_gymnasiums_step_by_step(name, kwargs, episodes):
    """Observation, reward and end, bit by bit, while other states are stepped in between."""
    environment = made(name, kwargs, starts=episodes)
    oracle = gymnasium.make(name, **kwargs)
    step, reset = jax.jit(environment.step), jax.jit(environment.reset)
    rng, ends, played = np.random.default_rng(0), 0, set()
    for key in range(8 * episodes):
        state = other = reset(jax.random.key(key))
        starts = [oracle.reset(seed=seed)[0] for seed in range(episodes)]
        start = next(
            s
            for s in range(episodes)
            if np.array_equal(seen(oracle, starts[s]), environment.observe(state))
        )
        if start in played:
            continue
        played.add(start)
        observation, _ = oracle.reset(seed=start)
        while True:
            push = name == "Acrobot-v1" and rng.random() < 0.95
            chosen = swing(observation) if push else int(rng.integers(environment.spec.num_actions))
            observation, reward, terminated, truncated, _ = oracle.step(chosen)
            other = step(other, jnp.int32(rng.integers(environment.spec.num_actions))).state
            moved = step(state, jnp.int32(chosen))
            state = moved.state
            np.testing.assert_array_equal(environment.observe(state), seen(oracle, observation))
            assert float(moved.reward) == reward
            assert bool(moved.terminated) == terminated
            if terminated or truncated:
                break
        ends += terminated
    assert name == "MountainCar-v0" or ends > 0
    if name == "Acrobot-v1":
        assert ends == episodes


@pytest.mark.parametrize("name", ["Acrobot-v1", "CartPole-v1", "Taxi-v4"])
def test_given_actions_have_the_rewards_of_the_steps(name):
    environment = made(name)
    states = jax.vmap(environment.reset)(jax.random.split(jax.random.key(0), 4))
    count = environment.spec.num_actions
    actions = jax.random.randint(jax.random.key(1), (4, 40), 0, count)
    together, alone = (
        jax.vmap(lambda s, a, f=f: f(environment, s, a, jnp.int32(35)))(states, actions)
        for f in (play_out, step_out)
    )
    np.testing.assert_array_equal(together, alone)
    assert np.asarray(together)[:, :35].any()
    assert not np.asarray(together)[:, 35:].any()


def test_taxi_has_one_hot_observations_and_its_own_limit():
    environment = made("Taxi-v4")
    assert environment.spec == ("gymnasium:Taxi-v4", 6, (500,), 200)
    state = environment.reset(jax.random.key(0))
    assert float(environment.observe(state).sum()) == 1.0


def test_limits_and_starts_are_options():
    assert made("CartPole-v1").spec.time_limit == 500
    assert made("CliffWalking-v1").spec.time_limit == 1_000  # Gymnasium sets none.
    short = made("CartPole-v1", time_limit=30, starts=2)
    assert short.spec.time_limit == 30
    keys = jax.random.split(jax.random.key(0), 20)
    places = jax.vmap(lambda k: short.observe(short.reset(k)))(keys)
    assert len(np.unique(places, axis=0)) == 2


def test_a_worker_process_steps_to_the_same_bits():
    alone, spread = made("Acrobot-v1"), made("Acrobot-v1", host={"workers": 2})
    results = []
    for environment in (alone, spread):
        states = jax.vmap(environment.reset)(jax.random.split(jax.random.key(1), 6))
        for action in (0, 2, 1):
            states = jax.vmap(lambda s, a=action, e=environment: e.step(s, jnp.int32(a)))(states)
            states = states.state
        results.append(environment.simulator.pool)
        results.append(jax.tree.leaves(states))
    spread.simulator.pool.close()
    for a, b in zip(results[1], results[3], strict=True):
        np.testing.assert_array_equal(a, b)


class Walk(gymnasium.Env):
    """A place on a line; what a subclass does with it is the subclass's."""

    action_space = gymnasium.spaces.Discrete(2, start=-1)
    observation_space = gymnasium.spaces.Discrete(9, start=3)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = int(self.np_random.integers(3, 6))
        return self.place, {}

    def step(self, action):
        assert action in (-1, 0)
        self.place = max(3, self.place + 2 * action + 1)
        return self.place, float(self.place), self.place == 11, False, {}


class Wrapped(Walk):
    """Two names for one list: what is shared must still be shared in a copy."""

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.here = self.there = [self.place]
        return self.place, {}

    def step(self, action):
        moved = super().step(action)
        self.here[0] = self.place
        return self.there[0], *moved[1:]


class Forgetful(Walk):
    """Keeps its place where no copy reaches."""

    _places: list = [3]  # noqa: RUF012

    def step(self, action):
        self._places[0] = 3 + (self._places[0] + action) % 8
        self.place = self._places[0]
        return self.place, 0.0, False, False, {}


class Nested(Walk):
    """Its generator hides inside another object."""

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.luck = {"generator": np.random.default_rng(seed)}
        return self.place, {}

    def step(self, action):
        self.place = int(self.luck["generator"].integers(3, 11))
        return self.place, 0.0, False, False, {}


class Parts(Walk):
    observation_space = gymnasium.spaces.Dict({"a": gymnasium.spaces.Discrete(2)})


@pytest.fixture(scope="module", autouse=True)
def registered():
    for cls in (Walk, Wrapped, Forgetful, Nested, Parts):
        gymnasium.register(f"Test{cls.__name__}-v0", entry_point=cls)
    yield
    for cls in (Walk, Wrapped, Forgetful, Nested, Parts):
        del gymnasium.registry[f"Test{cls.__name__}-v0"]


def test_discrete_spaces_may_start_anywhere_and_shared_objects_stay_shared():
    for name in ("TestWalk-v0", "TestWrapped-v0"):
        game = Game(GameMaker(name, "{}"))
        first = game.reset(0)
        place = int(first.view.argmax())
        right, left = game.step(first.snapshot, 1), game.step(first.snapshot, 0)
        assert right.view.shape == (9,)
        assert int(right.view.argmax()) == place + 1
        assert int(left.view.argmax()) == max(place - 1, 0)
        assert right.reward == 3 + place + 1
        assert made(name).spec.num_actions == 2


@pytest.mark.parametrize(
    ("name", "kwargs", "message"),
    [
        ("FrozenLake-v1", {"is_slippery": True}, "cannot serve as the true model: step .*random"),
        ("TestNested-v0", {}, "step .* gave another observation"),
        ("TestForgetful-v0", {}, "step 1 from start 0 gave another observation"),
        ("Blackjack-v1", {}, "Blackjack-v1 has Tuple observations"),
        ("TestParts-v0", {}, "has Dict observations; only Box and Discrete"),
        ("Pendulum-v1", {}, "Pendulum-v1 has Box actions; only Discrete"),
        ("Acrobat-v1", {}, r"unknown Gymnasium environment 'Acrobat-v1'. Did you mean 'Acrobot-v1"),
        ("CartPole-v1", {"colour": 1}, "making 'gymnasium:CartPole-v1' failed: .*colour"),
        ("no_such_module:World-v0", {}, "No module named 'no_such_module'"),
    ],
)
def test_what_cannot_serve_is_refused_in_one_line(name, kwargs, message):
    with pytest.raises(ConfigError, match=message) as caught:
        made(name, kwargs)
    assert "\n" not in str(caught.value)


def test_a_world_that_cannot_be_copied_is_refused():
    pytest.importorskip("Box2D")
    pytest.importorskip("pygame")
    with pytest.raises(ConfigError, match="its attribute 'world' cannot be pickled"):
        made("LunarLander-v3")


@pytest.mark.parametrize("kwargs", ["[1]", "{a: 1}"])
def test_kwargs_are_a_json_table(kwargs):
    with pytest.raises(ConfigError, match=r"environment.options.kwargs"):
        envs.make(EnvironmentConfig("gymnasium:CartPole-v1", options={"kwargs": kwargs}))


def test_a_missing_gymnasium_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "gymnasium", None)
    with pytest.raises(ConfigError, match=r"pip install 'muscope\[gymnasium\]'"):
        GameMaker("CartPole-v1", "{}")()


def test_the_contract_holds():
    for name, kwargs in (("Acrobot-v1", {}), ("FrozenLake-v1", {"is_slippery": False})):
        check(made(name, kwargs))
