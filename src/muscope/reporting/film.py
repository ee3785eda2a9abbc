"""A film of one episode: what the agent does, and what its model believed of it.

Beside the scene run the true rewards and those that the learned model predicts for the actions
that were really taken: the next one, from the state itself, and the K-th, from the state K - 1
steps before.
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key
from matplotlib import rc_context
from matplotlib.animation import AbstractMovieWriter, FFMpegWriter, PillowWriter
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from muscope.envs.base import State
from muscope.errors import ConfigError, RunError
from muscope.evaluation.play import muzero_policy
from muscope.evaluation.value_error import predicted_rewards
from muscope.experiments import style
from muscope.progress import progress
from muscope.reporting.scenes import SCENES, scene_of
from muscope.storage import gif
from muscope.storage.checkpoint import naming, write_atomically
from muscope.trained import TrainedAgent

GIF, MP4 = ".gif", ".mp4"
FPS, DPI = 25, 90
FRAMES = 240
"""About as many pictures as a film has at most; of longer episodes some steps are left out."""


class Episode(NamedTuple):
    """One episode of pi_MuZero with T steps, and the learned model beside it."""

    states: State
    """Pytree of [T, ...], the states that actions are taken in."""
    action: Int[np.ndarray, "T"]
    reward: Float[np.ndarray, "T"]
    """r_t"""
    predicted: Float[np.ndarray, "T K"]
    """u_t^0 .. u_t^{K-1} along the actions taken; NaN beyond the episode."""


def episode(agent: TrainedAgent, seed: int) -> Episode:
    """Play one episode at the agent's own temperature, without exploration noise."""
    reset_key, act_key = jax.random.split(jax.random.key(seed))
    start = agent.environment.reset(reset_key)
    *path, over, predicted = jax.device_get(_episode(agent, start, act_key))
    length = int(np.sum(~over))
    states, action, reward = jax.tree.map(lambda x: x[:length], path)
    reach = np.arange(length)[:, None] + np.arange(predicted.shape[1]) < length
    return Episode(states, action, reward, np.where(reach, predicted[:length], np.nan))


def _episode(agent: TrainedAgent, start: State, key: Key[Array, ""]) -> tuple[Any, ...]:
    """States, actions, rewards and ends of all steps, and what is predicted at each."""
    environment, network, subject = agent.environment, agent.network, agent.subject
    unroll, limit = subject.unroll, environment.spec.time_limit

    @jax.jit
    def run(start: State, key: Key[Array, ""]):
        policy = muzero_policy(
            environment, network, subject.search, subject.discount, agent.temperature
        )

        def step(carry, key):
            state, over = carry
            action = policy(jax.tree.map(lambda x: x[None], state), key)[0].astype(jnp.int32)
            moved = environment.step(state, action)
            return (moved.state, over | moved.terminated), (state, action, moved.reward, over)

        keys = jax.random.split(key, limit)
        path = jax.lax.scan(step, (start, jnp.array(False)), keys)[1]
        states, actions, _, _ = path
        ahead = jnp.pad(actions, (0, unroll))

        def believed(state: State, now: Int[Array, ""]) -> Float[Array, "K"]:
            taken = jax.lax.dynamic_slice_in_dim(ahead, now, unroll)
            return predicted_rewards(network, environment.observe(state), taken)

        return *path, jax.vmap(believed)(states, jnp.arange(limit))

    return run(start, key)


def film(agent: TrainedAgent, path: Path, seed: int = 0) -> None:
    """Write an animated GIF of one episode, or an MP4 if the file is to be called that.

    Args:
        agent: who plays.
        path: the file, which is replaced.
        seed: of the episode's start and of the actions.

    Raises:
        ConfigError: nobody has written how the environment looks, the file is neither, or an MP4
            is asked for without the extra ``[mp4]``.
        RunError: the MP4 cannot be encoded.

    """
    writer, ffmpeg = _writer_of(path)
    draw = scene_of(agent.environment)
    if draw is None:
        raise ConfigError(
            f"there is no drawing of '{agent.environment.spec.name}'; films exist for "
            f"{', '.join(sorted(SCENES))} and what shows frames. "
            "muscope/reporting/scenes.py is where one is added."
        )
    shown = episode(agent, seed)
    length = len(shown.action)
    stride = -(-length // FRAMES)
    steps = list(range(0, length, stride))
    with style.context(), rc_context(ffmpeg), _unfinished(path) as temporary:
        figure, scene, plot = _canvas(shown)
        now = plot.axvline(0, color="grey", linewidth=0.8)
        with (
            naming(path),
            writer().saving(figure, str(temporary), dpi=DPI) as saving,
            progress("film", len(steps), "frame") as bar,
        ):
            for step in steps:
                scene.clear()
                state = jax.tree.map(lambda x, step=step: jnp.asarray(x[step]), shown.states)
                draw(scene, state, int(shown.action[step]))
                scene.set_xticks([])
                scene.set_yticks([])
                total = float(np.sum(shown.reward[: step + 1]))
                scene.set_title(f"step {step}, return {total:.0f}", fontsize=9)
                now.set_xdata([step, step])
                if step == 0:  # Laid out once: it takes longer than a picture.
                    figure.draw_without_rendering()
                    figure.set_layout_engine("none")
                saving.grab_frame()
                bar.update(1)
        data = temporary.read_bytes()
    if path.suffix == GIF:
        box = scene.get_tightbbox().padded(4.0).extents
        data = gif.sealed(gif.noted(data, notes(agent, shown, steps, box)))
    write_atomically(path, data)


@contextlib.contextmanager
def _unfinished(path: Path) -> Iterator[Path]:
    """Where a film is written to, which is gone afterwards; what stops an encoder is told.

    Raises:
        RunError: it failed by itself.

    """
    temporary = path.with_name(f".{path.stem}.tmp{path.suffix}")
    try:
        yield temporary
    except subprocess.CalledProcessError as error:
        # A Ctrl-C stops it too, and must stay one.
        if isinstance(error.__context__, KeyboardInterrupt):
            raise error.__context__ from None
        told = (error.stderr or error.output or b"").decode(errors="replace").strip()
        reason = told.splitlines()[-1] if told else f"status {error.returncode}"
        raise RunError(f"{path} cannot be encoded: {reason}") from error
    finally:
        temporary.unlink(missing_ok=True)


def _canvas(shown: Episode) -> tuple[Figure, Any, Any]:
    """A figure, its axes for the scene, and those with the episode's rewards."""
    length, unroll = shown.predicted.shape
    late = np.full(length, np.nan)
    late[unroll - 1 :] = shown.predicted[: max(length - unroll + 1, 0), -1]
    lines = {
        "true": (shown.reward, "black"),
        "predicted one step ahead": (shown.predicted[:, 0], style.MODEL_COLOURS["learned"]),
        f"predicted {unroll} steps ahead": (late, style.COLOURS["mcts"]),
    }
    figure = Figure(figsize=(6.4, 2.7), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    scene, plot = figure.subplots(1, 2)
    for label, (values, colour) in lines.items():
        plot.plot(values, color=colour, label=label, linewidth=1)
    plot.set_xlabel("step")
    plot.set_ylabel("reward")
    scale_rewards(plot, [values for values, _ in lines.values()])
    style.legend_below(figure, plot, columns=3)
    return figure, scene, plot


def _writer_of(path: Path) -> tuple[Callable[[], AbstractMovieWriter], Any]:
    """What makes a writer of such a file, and Matplotlib's settings for it.

    Raises:
        ConfigError: it is no GIF and no MP4, or the latter's extra is missing.

    """
    if path.suffix == GIF:
        return lambda: PillowWriter(fps=FPS), {}
    if path.suffix != MP4:
        raise ConfigError(f"a film is a {GIF} or an {MP4}, not '{path.name}'; rename it.")
    try:
        from imageio_ffmpeg import get_ffmpeg_exe

        settings = {"animation.ffmpeg_path": get_ffmpeg_exe()}
    except ImportError as error:
        raise ConfigError("an MP4 needs imageio-ffmpeg: pip install 'muscope[mp4]'.") from error
    except RuntimeError as error:
        raise ConfigError(f"an MP4 needs ffmpeg, and there is none here: {error}") from error
    # Every player knows H.264 with colours at half the resolution.
    more = ["-pix_fmt", "yuv420p"]
    return lambda: FFMpegWriter(fps=FPS, codec="h264", extra_args=more), settings


WIDE = 10.0
"""Rewards beyond it are drawn on a logarithmic axis."""


def is_wide(values: ArrayLike) -> bool:
    """Whether most of these rewards would not be told apart on a linear axis: most are small, but
    the end's may be a hundred times as large.
    """
    return float(np.nanmax(np.abs(values), initial=0.0)) > WIDE


def scale_rewards(axes: Axes, rewards: Sequence[np.ndarray]) -> None:
    """Scale the y axis for rewards, with labels that are plain numbers.

    Args:
        axes: on which they are drawn.
        rewards: [T] each; NaN where there is none.

    """
    values = np.concatenate([[0.0], *rewards])
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    if not is_wide(values):
        margin = 0.05 * (high - low or 1.0)
        axes.set_ylim(low - margin, high + margin)
        return
    axes.set_yscale("symlog", linthresh=1.0)
    powers = 10.0 ** np.arange(np.ceil(np.log10(max(-low, high))) + 1)
    ticks = [t for t in (*-powers[::-1], 0.0, *powers) if low * 1.2 <= t <= high * 1.2]
    axes.set_yticks(ticks, [f"{t:g}" for t in ticks])
    axes.minorticks_off()


def notes(
    agent: TrainedAgent, shown: Episode, frames: Sequence[int], box: np.ndarray
) -> dict[str, Any]:
    """What a film's file says of its episode: numbers by move, the move of every picture, and where
    the scene is in it, in pixels from the left and from below.
    """
    return {
        "scene": [round(float(at)) for at in box],
        "agent": agent.index,
        "step": agent.step,
        "frames": [*frames],
        "action": shown.action.tolist(),
        "reward": shown.reward.tolist(),
        "predicted": [
            [None if np.isnan(u) else float(u) for u in ahead] for ahead in shown.predicted
        ],
    }
