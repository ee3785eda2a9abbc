"""The command line: ``muscope plan | study | sweep | train | merge | pool | job | evaluate |
examine | claims | compare | report | film | look | tensorboard``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from muscope import doors, envs, exits, runtime
from muscope.cli import new_run, runs
from muscope.errors import ConfigError, nearest
from muscope.version import __version__

SUMMARY = """A microscope for the models that MuZero learns.

  muscope plan ENV         what a study will cost, before anything of it is run
  muscope study ENV        train a population, examine its checkpoints, write a report
  muscope sweep ENV        variants of the settings, each trained and examined, side by side
  muscope train ENV        the first stage alone; resumes an interrupted run
  muscope merge RUN RUN... runs of different agents, trained apart, as one
  muscope pool RUN RUN...  runs of different seeds as one, by their tables alone
  muscope job RUN NAME     one job of a study on a cluster, alone
  muscope evaluate RUN     the second: checkpoints to tables
  muscope examine AGENT    anybody's agent: tables, figures, claims and a report
  muscope claims RUN...    the paper's claims, judged from the tables of one or more runs
  muscope compare RUN...   runs, or a sweep's, side by side: differences with intervals
  muscope report RUN...    the third: tables to figures, claims and report.html
  muscope film RUN         one episode of an agent as GIF or MP4, and what its model believed
  muscope look RUN         one state: the search's tree beside the truth
  muscope tensorboard RUN  training curves for TensorBoard, once or while training goes on

Stages meet in the run's directory, and each skips what is already there.
Try:  muscope study cart-pole
Help: muscope study cart-pole --help lists every setting with its value in the preset.
ENV: {environments}; atari:GAME, gymnasium:ID, or your own:
     my_world.py:NAME, package.module:NAME.
AGENT: {readers}, or your own: my_agent.py:NAME."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point; exits with status 0, 1 (an error), 2 (an unknown flag or a value of the wrong
    type) or 130 (interrupted).  Every error is one line.
    """
    with exits.in_one_line():
        _dispatch(list(sys.argv[1:] if arguments is None else arguments))


def _dispatch(arguments: list[str]) -> None:
    commands: dict[str, Callable[[list[str]], None]] = {
        "plan": new_run.plan,
        "study": new_run.study,
        "sweep": new_run.sweep,
        "train": new_run.train,
        "merge": runs.merge,
        "pool": runs.pool,
        "job": runs.job,
        "evaluate": runs.evaluate,
        "examine": runs.examine,
        "claims": runs.claims,
        "compare": runs.compare,
        "report": runs.report,
        "film": runs.film,
        "look": runs.look,
        "tensorboard": runs.tensorboard,
    }
    if not arguments or arguments[0] in ("-h", "--help"):
        known = ", ".join(envs.names())
        print(SUMMARY.format(environments=known, readers=", ".join(doors.forms())))
        return
    if arguments[0] == "--version":
        print(__version__)
        return
    name, *rest = arguments
    if name not in commands:
        raise ConfigError(f"unknown command '{name}'.{nearest(name, commands)}")
    runtime.prepare()  # Before anything of the user's may start JAX.
    # These start devices if they need any.
    computes = name not in ("claims", "compare", "merge", "pool", "report", "tensorboard")
    if computes and not {"-h", "--help"} & set(rest):
        runtime.start()
    commands[name](rest)
