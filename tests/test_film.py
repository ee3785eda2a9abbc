"""Films: the episode they show is the environment's, and the beliefs are the model's."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from browser import chromium, opened
from matplotlib.figure import Figure
from PIL import Image

import muscope
from muscope import cli, envs
from muscope.errors import ConfigError
from muscope.reporting.film import FRAMES, episode, film, scale_rewards
from muscope.reporting.scenes import SCENES, scene_of
from muscope.storage import gif


@pytest.fixture(scope="module")
def run(tiny_study):
    return tiny_study


def at(states, now):
    return jax.tree.map(lambda x: jnp.asarray(x[now]), states)


def test_an_episode_and_what_the_model_believed_of_it(run):
    agent = run.agent(index=1)
    shown = episode(agent, seed=3)
    length, unroll = shown.predicted.shape
    assert unroll == run.config.loss.unroll
    assert len(shown.action) == length == shown.reward.sum()
    state = at(shown.states, 0)
    for now in range(length):
        kept = at(shown.states, now)
        np.testing.assert_allclose(state.physics, kept.physics, rtol=1e-6)
        state, _, over = agent.environment.step(kept, jnp.int32(shown.action[now]))
        assert bool(over) == (now == length - 1)
    for now in (0, length // 2, length - 2):
        kept = at(shown.states, now)
        ahead = shown.action[now : now + unroll]
        rewards, _ = agent.unroll(agent.environment.observe(kept), ahead.tolist())
        np.testing.assert_allclose(shown.predicted[now, : len(ahead)], rewards, atol=1e-5)
        assert np.all(np.isnan(shown.predicted[now, len(ahead) :]))


def test_a_study_ends_with_a_film_in_its_report(run):
    with Image.open(run.film_path) as film_:
        assert film_.format == "GIF"
        assert 2 <= film_.n_frames <= FRAMES
    assert "data:image/gif;base64" in run.report_path.read_text()


def test_a_films_file_has_its_episodes_numbers(run):
    notes = gif.notes_of(gif.read(run.film_path))
    shown = episode(run.agent(), seed=0)
    assert notes["action"] == shown.action.tolist()
    assert notes["reward"] == shown.reward.tolist()
    predicted = np.array(notes["predicted"], float)
    np.testing.assert_allclose(predicted, shown.predicted, rtol=1e-6)
    assert notes["frames"] == list(range(len(shown.action)))
    with Image.open(run.film_path) as film_:
        assert film_.n_frames == len(notes["frames"])


def test_one_steps_through_the_film_beside_what_was_predicted(run):
    shown = episode(run.agent(), seed=0)
    with chromium() as browser, opened(browser, run.report_path) as visit:
        card = visit.drawn("r0-film")
        pictures = [card.locator(".scene img").get_attribute("src")]
        for _ in range(2):
            card.get_by_label("one picture on").click()
        visit.settled("r0-film")
        pictures.append(card.locator(".scene img").get_attribute("src"))
        assert pictures[0] != pictures[1]
        told = card.locator(".told").inner_text()
        assert told.startswith(f"move 2: action {shown.action[2]}, reward {shown.reward[2]:g};")
        for u in (shown.predicted[2, 0], shown.predicted[2 - 2, -1]):  # K is 3.
            assert f"{float(f'{u:.4g}'):g}"[:6] in told
        card.get_by_label("one picture back").click()
        assert card.locator("output").inner_text() == "1"
        play = card.locator('[data-play="0"]')
        play.click()
        assert play.inner_text() == "pause"
        visit.page.wait_for_function("document.querySelector('#r0-film output').textContent > 3")
        play.click()
        assert play.inner_text() == "play"
        assert visit.said == []


def test_notes_of_any_length_come_back():
    bare = b"GIF89a...\x3b"
    for notes in ({}, {"x": list(range(5000))}):
        sealed = gif.sealed(gif.noted(bare, notes))
        assert gif.notes_of(sealed) == notes
        assert sealed.startswith(b"GIF89a...")
    assert gif.notes_of(gif.sealed(bare)) is None


@pytest.mark.parametrize(
    ("rewards", "scale", "labels"),
    [
        ([1.0, 1.0, np.nan], "linear", {"0.0", "1.0"}),
        ([-100.0, 0.3, 2.0], "symlog", {"-100", "-10", "-1", "0", "1"}),
        ([0.0, 140.0], "symlog", {"0", "1", "10", "100"}),
    ],
)
def test_rewards_are_on_an_axis_that_can_be_read(rewards, scale, labels):
    figure = Figure()
    axes = figure.subplots()
    axes.plot(rewards)
    scale_rewards(axes, [np.array(rewards)])
    figure.draw_without_rendering()
    assert axes.get_yscale() == scale
    shown = {label.get_text() for label in axes.get_yticklabels()}
    assert labels <= shown if scale == "linear" else labels == shown


def test_the_command_films_any_checkpoint(run, tmp_path, capsys):
    out = tmp_path / "early.gif"
    cli.main(["film", str(run.path), "--agent", "1", "--step", "0", "--out", str(out)])
    assert str(out) in capsys.readouterr().out
    with Image.open(out) as shown:
        assert shown.n_frames >= 2
    assert [p.name for p in tmp_path.iterdir()] == ["early.gif"]
    with pytest.raises(SystemExit):
        cli.main(["film", str(run.path), "--step", "7"])
    assert "no checkpoint at step 7" in capsys.readouterr().err


def test_what_nobody_draws_is_refused(run, tmp_path):
    class Undrawn(envs.CartPole):
        spec = envs.Spec("undrawn", 2, (4,), 10)

    agent = run.agent()
    agent.environment = Undrawn()
    with pytest.raises(ConfigError, match="no drawing of 'undrawn'"):
        film(agent, tmp_path / "none.gif")


@pytest.mark.parametrize("name", sorted(SCENES))
def test_scenes_put_something_on_the_axes(name):
    from matplotlib.figure import Figure

    environment = envs.make(name)
    state = jax.jit(environment.reset)(jax.random.key(0))
    axes = Figure().subplots()
    scene_of(environment)(axes, state, 1)
    assert len(axes.patches) + len(axes.lines) >= 3


def test_an_mp4_shows_the_same_pictures(run, tmp_path):
    ffmpeg = pytest.importorskip("imageio_ffmpeg")
    path = muscope.film(run, out=tmp_path / "film.mp4")
    assert [p.name for p in tmp_path.iterdir()] == ["film.mp4"]
    raw = ["-i", path, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    program = [ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", *raw]
    data = subprocess.run(program, capture_output=True, check=True).stdout
    with Image.open(run.film_path) as gif_:
        width = gif_.width
        pictures = np.frombuffer(data, np.uint8).reshape(gif_.n_frames, -1, width, 3)
        ends = (0, gif_.n_frames - 1)
        shown = []
        for now in ends:
            gif_.seek(now)
            shown.append(np.asarray(gif_.convert("RGB").resize((width, pictures.shape[1])), float))
    # Each end is like the GIF's, and much less like the other end.
    far = [[np.mean(np.abs(pictures[now] - other)) for other in shown] for now in ends]
    assert far[0][0] < 0.75 * far[0][1]
    assert far[1][1] < 0.75 * far[1][0]


def test_a_film_of_another_kind_is_refused(run, tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match=r"a \.gif or an \.mp4"):
        muscope.film(run, out=tmp_path / "film.avi")
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "imageio_ffmpeg", None)
        with pytest.raises(ConfigError, match=r"muscope\[mp4\]"):
            muscope.film(run, out=tmp_path / "film.mp4")
    ffmpeg = pytest.importorskip("imageio_ffmpeg")
    monkeypatch.setattr(ffmpeg, "get_ffmpeg_exe", lambda: "/bin/false")
    with pytest.raises(muscope.RunError, match=r"film\.mp4 cannot be encoded: status 1"):
        muscope.film(run, out=tmp_path / "film.mp4")
    assert not any(tmp_path.iterdir())
