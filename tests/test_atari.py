"""Atari against the emulator itself, played frame by frame, and OpenCV."""

import dataclasses
import operator
import os
import signal
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from muscope import envs, presets
from muscope.config.base import to_dict
from muscope.config.environment import EnvironmentConfig, HostConfig
from muscope.envs import training_view
from muscope.envs.atari import AtariConfig, area_weights, resize
from muscope.envs.base import play_out, step_out
from muscope.envs.emulator import Emulator, EmulatorMaker
from muscope.envs.workers import Pool, Work
from muscope.errors import ConfigError

ale_py = pytest.importorskip("ale_py")
cv2 = pytest.importorskip("cv2")

GREY = AtariConfig(frame_size=48, colour="grey")
RGB = AtariConfig()


def breakout(atari=GREY, workers=1):
    options = dataclasses.replace(atari, host=HostConfig(workers=workers))
    return envs.make(EnvironmentConfig("breakout", options=to_dict(options)))


def console(game="breakout"):
    """The emulator as anyone would set it up."""
    from ale_py import roms

    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
    ale = ale_py.ALEInterface()
    ale.setFloat("repeat_action_probability", 0.0)
    ale.setInt("random_seed", 0)
    ale.loadROM(roms.get_rom_path(game))
    ale.reset_game()
    return ale


class Reference:
    """The observation pipeline again, on arrays, frame by frame, with OpenCV's resize."""

    def __init__(self, atari, noops):
        self.atari, self.ale = atari, console()
        self.buttons = self.ale.getMinimalActionSet()
        for _ in range(noops):
            self.ale.act(0)
        self.stack = [self.small(self.screen())] * 4

    def screen(self):
        grey = self.atari.colour == "grey"
        return self.ale.getScreenGrayscale() if grey else self.ale.getScreenRGB()

    def small(self, screen):
        size = (self.atari.frame_size,) * 2
        return cv2.resize(screen, size, interpolation=cv2.INTER_AREA).reshape(*size, -1)

    def step(self, action):
        reward, screens = 0, []
        for _ in range(4):
            reward += self.ale.act(self.buttons[action])
            screens.append(self.screen())
            if self.ale.game_over():
                break
        self.stack = [*self.stack[1:], self.small(np.max(screens[-2:], axis=0))]
        return reward

    def seen(self):
        return np.concatenate(self.stack, axis=-1).astype(np.float32)


@pytest.mark.parametrize("atari", [GREY, RGB], ids=["grey", "rgb"])
def test_a_game_equals_the_emulator_and_opencv_frame_by_frame(atari):
    """Screens, stack, rewards, lives and the end of a whole game of random actions."""
    environment = breakout(atari)
    step, observe = jax.jit(environment.step), jax.jit(environment.observe)
    reset = jax.jit(environment.reset)
    rng = np.random.default_rng(0)
    state, noops = reset(jax.random.key(3)), set()
    for key in range(40):
        noops.add(reset(jax.random.key(key)).snapshot.tobytes())
    assert 15 < len(noops) <= 30
    reference = next(
        r
        for r in (Reference(atari, n) for n in range(1, 31))
        if r.ale.cloneState().serialize() == serialised(state)
    )
    np.testing.assert_allclose(255 * observe(state), reference.seen(), atol=1e-4)
    total, lives = 0, 5
    while not bool(state.terminated):
        action = rng.integers(4)
        moved = step(state, jnp.int32(action))
        assert float(moved.reward) == reference.step(action)
        state = moved.state
        assert int(state.memory.lives) == reference.ale.lives()
        assert bool(moved.terminated) == reference.ale.game_over()
        np.testing.assert_allclose(255 * observe(state), reference.seen(), atol=1e-4)
        total, lives = total + float(moved.reward), min(lives, int(state.memory.lives))
    assert lives == 0
    assert total > 0


def serialised(state):
    return np.asarray(state.snapshot)[: int(state.length)].tobytes()


@pytest.mark.parametrize("workers", [1, 2])
def test_random_continuations_after_a_restore_are_exact(workers):
    """RAM, stack, reward and end of 32 steps, wherever the states are stepped."""
    environment = breakout(workers=workers)
    step = jax.jit(environment.step)
    rng = np.random.default_rng(workers)
    state = environment.reset(jax.random.key(0))
    trail = [state]
    for _ in range(120):
        state = step(state, jnp.int32(rng.integers(4))).state
        trail.append(state)

    def follow(state, actions):
        def body(state, action):
            moved = environment.step(state, action)
            return moved.state, moved

        return jax.lax.scan(body, state, actions)[1]

    starts = [trail[i] for i in rng.integers(len(trail), size=12)]
    batch = jax.tree.map(lambda *x: jnp.stack(x), *starts)
    actions = jnp.asarray(rng.integers(4, size=(12, 32)), jnp.int32)
    together = jax.jit(jax.vmap(follow))(batch, actions)
    console_again = console()
    # The original: one emulator that goes on by itself from where it was restored once.
    for i, start in enumerate(starts):
        console_again.restoreState(ale_py.ALEState(serialised(start)))
        buttons = console_again.getMinimalActionSet()
        for t in range(32):
            if bool(together.terminated[i, max(t - 1, 0)]):
                break
            reward = sum(console_again.act(buttons[int(actions[i, t])]) for _ in range(4))
            moved = jax.tree.map(lambda x, i=i, t=t: x[i, t], together)
            assert float(moved.reward) == reward
            assert bool(moved.terminated) == console_again.game_over()
            if not bool(moved.terminated):
                assert serialised(moved.state) == console_again.cloneState().serialize()
        if i < 3:
            alone = jax.jit(follow)(start, actions[i])
            again = jax.tree.map(operator.itemgetter(i), together)
            for a, b in zip(jax.tree.leaves(alone), jax.tree.leaves(again), strict=True):
                np.testing.assert_array_equal(a, b)
    environment.simulator.pool.close()


def test_ram_and_screen_after_a_step_do_not_depend_on_what_was_shown_before():
    """A restored emulator shows a stale screen; a step must not use it."""
    model = Emulator(EmulatorMaker("breakout", True, 4))
    far = near = model.reset(0)
    for _ in range(40):
        far = model.step(far.snapshot, 1)
        far = model.step(far.snapshot, 2)
    raw = console()
    raw.restoreState(ale_py.ALEState(far.snapshot))
    shown = raw.getScreenGrayscale().copy()
    raw.restoreState(ale_py.ALEState(near.snapshot))
    np.testing.assert_array_equal(raw.getScreenGrayscale(), shown)  # The trap exists.
    fresh = Emulator(EmulatorMaker("breakout", True, 4)).step(near.snapshot, 3)
    model.step(far.snapshot, 2)
    after = model.step(near.snapshot, 3)
    np.testing.assert_array_equal(after.view.screen, fresh.view.screen)
    assert after.snapshot == fresh.snapshot
    with_skip_one = Emulator(EmulatorMaker("breakout", True, 1))
    with_skip_one.step(far.snapshot, 2)
    raw.act(raw.getMinimalActionSet()[3])
    np.testing.assert_array_equal(
        with_skip_one.step(near.snapshot, 3).view.screen[..., 0], raw.getScreenGrayscale()
    )


def test_fire_and_no_action_are_one_once_the_ball_moves():
    model = Emulator(EmulatorMaker("breakout", True, 4))
    state = model.reset(5)
    assert model.step(state.snapshot, 0).snapshot != model.step(state.snapshot, 1).snapshot
    for action in (1, 2, 0, 3):
        state = model.step(state.snapshot, action)
    assert model.step(state.snapshot, 0).snapshot == model.step(state.snapshot, 1).snapshot


def test_fire_is_pressed_at_the_start_and_after_every_life_and_at_no_other_time():
    """Against the raw emulator, on which FIRE is pressed by hand."""
    model, raw = Emulator(EmulatorMaker("breakout", True, 4, fire=True)), console()
    buttons, rng = raw.getMinimalActionSet(), np.random.default_rng(0)

    def press(button):
        points = 0
        for _ in range(4):
            if not raw.game_over():
                points += raw.act(button)
        return points

    for _ in range(8):
        raw.act(0)
    press(ale_py.Action.FIRE)
    now = model.reset(7)
    served, moves = 1, 0
    while not now.over:
        assert now.snapshot == raw.cloneState().serialize()
        lives, action = raw.lives(), int(rng.choice([0, 2, 3]))
        points = press(buttons[action])
        if raw.lives() < lives and not raw.game_over():
            points += press(ale_py.Action.FIRE)
            served += 1
        now = model.step(now.snapshot, action)
        moves += 1
        assert now.reward == points
    assert served == 5
    assert moves < 1_000
    idle = waiting = Emulator(EmulatorMaker("breakout", True, 4)).reset(7)
    for _ in range(200):
        waiting = model.step(waiting.snapshot, 0)
    assert waiting.view.lives == idle.view.lives  # Nobody has served.


def test_fire_changes_nothing_where_a_game_has_no_such_button():
    games = [
        Emulator(EmulatorMaker("freeway", True, 4, fire=fire)).reset(3) for fire in (False, True)
    ]
    assert games[0].snapshot == games[1].snapshot


@pytest.mark.parametrize("preset", ["quick", "gpu", "paper"])
def test_presets_serve(preset):
    assert presets.preset("breakout", preset).environment.options["fire"]
    assert presets.preset("atari:pong", preset).environment.options["fire"]


def test_a_finished_game_stays_as_it_is():
    environment = breakout()
    step = jax.jit(environment.step)
    state = environment.reset(jax.random.key(0))
    while not bool(state.terminated):
        state = step(state, jnp.int32(1)).state
    for action in range(4):
        moved = step(state, jnp.int32(action))
        assert float(moved.reward) == 0
        assert bool(moved.terminated)
        for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(moved.state), strict=True):
            np.testing.assert_array_equal(a, b)


def test_the_training_view_ends_lives_and_clips():
    game = breakout()
    view = training_view(game)
    step = jax.jit(view.step)
    state, rng = game.reset(jax.random.key(0)), np.random.default_rng(0)
    ends, points = 0, []
    while not bool(state.over):
        before = state
        moved = step(state, jnp.int32(rng.integers(4)))
        assert float(moved.reward) == np.sign(float(moved.state.points))
        assert bool(moved.terminated) == (int(moved.state.memory.lives) < int(before.memory.lives))
        ends += bool(moved.terminated)
        points.append(float(moved.state.points))
        state = view.resume(moved.state).state
    assert ends == 5
    plain = training_view(
        breakout(dataclasses.replace(GREY, ends_with_a_life=False, clip_rewards=False))
    )
    assert not bool(plain.step(before, jnp.int32(1)).terminated) or bool(before.memory.lives == 1)


def play(pool, seed, steps):
    """A few lanes of random play through a pool."""
    rng = np.random.default_rng(seed)
    lanes = pool.map([Work(None, start) for start in range(6)])
    trail = []
    for _ in range(steps):
        lanes = pool.map([Work(lane.snapshot, int(rng.integers(4))) for lane in lanes])
        trail.append([(x.snapshot, x.view.screen.tobytes(), x.view.lives, x.reward) for x in lanes])
    return trail


def test_one_two_and_three_workers_give_the_same_games_also_when_one_is_killed():
    trails = []
    for workers in (1, 2, 3):
        pool = Pool(EmulatorMaker("breakout", True, 4), workers)
        trails.append(play(pool, 0, 15))
        if workers == 2:
            os.kill(pool.pids[1], signal.SIGKILL)
            trails.append(play(pool, 0, 15))
        pool.close()
    assert all(trail == trails[0] for trail in trails[1:])


@pytest.mark.parametrize(("source", "target"), [(210, 96), (160, 96), (210, 48), (160, 160)])
def test_area_weights_are_averages(source, target):
    weights = area_weights(source, target)
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(weights.sum(axis=0), target / source, rtol=1e-5)


def test_the_resize_equals_opencvs_on_noise():
    screen = np.random.default_rng(0).integers(0, 256, (210, 160, 3), np.uint8)
    ours = resize(jnp.asarray(screen), area_weights(210, 96), area_weights(160, 96))
    np.testing.assert_array_equal(ours, cv2.resize(screen, (96, 96), interpolation=cv2.INTER_AREA))


def test_unknown_games_and_a_missing_package_are_named(monkeypatch):
    with pytest.raises(ConfigError, match=r"unknown Atari game 'breakot'.*'breakout'"):
        envs.make("atari:breakot")
    assert envs.make("atari:pong").spec.num_actions == 6
    monkeypatch.setitem(sys.modules, "ale_py", None)
    with pytest.raises(ConfigError, match=r"pip install 'muscope\[atari\]'"):
        EmulatorMaker("breakout", True, 4)()


@pytest.mark.parametrize("fire", [False, True])
def test_given_actions_have_the_rewards_of_the_steps_whatever_ends_them(fire):
    """From many states, as the game and as the training view, in as many steps as there are."""
    game = breakout(dataclasses.replace(GREY, fire=fire))
    bare = breakout(dataclasses.replace(GREY, fire=fire, ends_with_a_life=False))
    state, rng, states = game.reset(jax.random.key(0)), np.random.default_rng(0), []
    step = jax.jit(game.step)
    while not bool(state.over):
        states.append(state)
        state = step(state, jnp.int32(rng.integers(4))).state
    states = jax.tree.map(lambda *x: jnp.stack(x), *states[::9], state)
    count = states.terminated.shape[0]
    actions = jnp.asarray(rng.integers(4, size=(count, 40)), jnp.int32)
    lengths = jnp.asarray(rng.integers(20, 41, size=count), jnp.int32)
    sums = []
    for environment in (game, training_view(game), training_view(bare)):
        together, alone = (
            jax.vmap(lambda *x, f=f, e=environment: f(e, *x))(states, actions, lengths)
            for f in (play_out, step_out)
        )
        np.testing.assert_array_equal(together, alone)
        sums.append(float(together.sum()))
    assert sums[0] >= sums[2] >= sums[1] > 0
    if fire:  # Who presses no FIRE has no rewards after a lost life.
        assert sums[2] > sums[1]
    assert not np.asarray(together)[-1].any()
    past = np.arange(40) >= np.asarray(lengths)[:, None]
    assert not np.asarray(together)[past].any()


def test_given_actions_that_begin_alike_are_computed_once():
    game = breakout()
    state = game.reset(jax.random.key(0))
    actions = jnp.array([[2, 2, 3, 0, 0, 1, 2], [2, 2, 3, 3, 1, 1, 2]])
    done = game.simulator.computed
    first, second = (play_out(game, state, a, jnp.int32(7)) for a in actions)
    assert game.simulator.computed == done + 7 + 4
    again = play_out(game, state, actions[0], jnp.int32(5))
    assert game.simulator.computed == done + 7 + 4
    np.testing.assert_array_equal(again[:5], first[:5])
    np.testing.assert_array_equal(second, step_out(game, state, actions[1], jnp.int32(7)))
