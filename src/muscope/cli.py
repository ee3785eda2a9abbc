"""The command line: ``muscope study | train | evaluate | claims | report | film``."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

import muscope
from muscope import envs, presets, stages
from muscope.claims import as_text
from muscope.config import Config, EnvironmentConfig
from muscope.errors import ConfigError, MuscopeError, nearest
from muscope.experiments.config import EvaluateConfig
from muscope.experiments.evaluate import EXPERIMENTS
from muscope.training.runner import Interrupted

SUMMARY = """A microscope for the models that MuZero learns.

  muscope study ENV      train a population, examine its checkpoints, write a report
  muscope train ENV      the first stage alone; resumes an interrupted run
  muscope evaluate RUN   the second: checkpoints to tables
  muscope claims RUN...  the paper's claims, judged from the tables of one or more runs
  muscope report RUN     the third: tables to figures, claims and report.html
  muscope film RUN       one episode of an agent as a GIF, and what its model believed of it

Stages meet in the run's directory, and each skips what is already there.
Try:  muscope study cart-pole
Help: muscope study cart-pole --help lists every setting with its value in the preset.
Environments: {environments}."""


@dataclass(frozen=True)
class _NewRun:
    """Options of study and train."""

    config: Annotated[Config, tyro.conf.arg(name="")]
    preset: str = "quick"
    """The settings to start from: quick (two CPU cores) or paper (its full scale); Breakout also
    has gpu (one GPU, 25 minutes)."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """The run's directory; by default runs/ENV-PRESET-seedSEED."""


@dataclass(frozen=True)
class _Evaluate:
    """Options of evaluate."""

    evaluate: EvaluateConfig
    figures: str = "all"
    """Which figures: numbers or names with commas between, such as 2,3,endings; or all."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point; exits with status 0, 1 (an error, in one line), 2 (an unknown flag or a
    value of the wrong type) or 130 (interrupted).
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        _dispatch(arguments)
    except MuscopeError as error:
        print(f"muscope: {error}", file=sys.stderr)
        sys.exit(1)
    except OSError as error:
        print(f"muscope: {error}", file=sys.stderr)
        sys.exit(1)
    except Interrupted as stop:
        print(f"muscope: {stop}", file=sys.stderr)
        sys.exit(130)
    except KeyboardInterrupt:
        print("muscope: stopped; the same command resumes.", file=sys.stderr)
        sys.exit(130)


def _dispatch(arguments: list[str]) -> None:
    commands = {
        "study": _study,
        "train": _train,
        "evaluate": _evaluate,
        "claims": _claims,
        "report": _report,
        "film": _film,
    }
    if not arguments or arguments[0] in ("-h", "--help"):
        print(SUMMARY.format(environments=", ".join(envs.names())))
        return
    if arguments[0] == "--version":
        print(muscope.__version__)
        return
    name, *rest = arguments
    if name not in commands:
        raise ConfigError(f"unknown command '{name}'.{nearest(name, commands)}")
    commands[name](rest)


def _study(arguments: list[str]) -> None:
    config, out = _new_run("study", arguments)
    run = stages.study(config, out)
    print(run.report_path)


def _train(arguments: list[str]) -> None:
    config, out = _new_run("train", arguments)
    print(stages.train(config, out).path)


def _new_run(command: str, arguments: list[str]) -> tuple[Config, Path]:
    """The run's config and directory, from a preset with the command line's changes."""
    environment, rest = _take(arguments, command, "ENV", "|".join(envs.names()))
    if environment is None:
        environment = EnvironmentConfig().name
    envs.make(environment)
    base = presets.preset(environment, _value_of("--preset", rest) or "quick")
    parsed = tyro.cli(
        _NewRun,
        args=rest,
        default=_NewRun(base, base.preset),
        prog=f"muscope {command} {environment}",
        description=f"Settings of '{environment}', starting from preset '{base.preset}'.",
        config=(tyro.conf.FlagConversionOff,),
    )
    default = Path("runs") / f"{environment}-{parsed.preset}-seed{parsed.config.train.seed}"
    return parsed.config, parsed.out or default


def _evaluate(arguments: list[str]) -> None:
    path, rest = _take(arguments, "evaluate", "RUN", "runs/cart-pole-quick-seed0")
    helping = {"-h", "--help"} & set(rest)
    run = stages.open_run(path) if path is not None and not helping else None
    parsed = tyro.cli(
        _Evaluate,
        args=rest,
        default=_Evaluate(run.config.evaluate if run else EvaluateConfig()),
        prog=f"muscope evaluate {path or 'RUN'}",
        description="Fill a run's tables from its checkpoints; finished cells are skipped.",
        config=(tyro.conf.FlagConversionOff,),
    )
    if run is None:
        return
    names = _figure_names(parsed.figures)
    run.config = dataclasses.replace(run.config, evaluate=parsed.evaluate)
    stages.evaluate(run, names)
    print(run.path / "tables")


def _figure_names(figures: str) -> list[str] | None:
    if figures == "all":
        return None
    given = [name.strip() for name in figures.split(",")]
    names = [f"figure{name}" if name.isdecimal() else name for name in given]
    for name in names:
        if name not in EXPERIMENTS:
            raise ConfigError(f"unknown figure '{name}'.{nearest(name, EXPERIMENTS)}")
    return names


def _claims(arguments: list[str]) -> None:
    if {"-h", "--help"} & set(arguments):
        print(
            "usage: muscope claims RUN...\n\nJudge the paper's claims from the tables of one or "
            "more runs; writes tables/claims.parquet."
        )
        return
    _take(arguments, "claims", "RUN", "runs/cart-pole-quick-seed0")
    flags = [argument for argument in arguments if argument.startswith("-")]
    if flags:
        raise ConfigError(f"'claims' takes runs and no options, not {flags[0]}.")
    for i, run in enumerate([stages.open_run(path) for path in arguments]):
        config = run.config
        print("\n" * (i > 0) + f"{config.environment.name}, {run.path}:")
        print(as_text(stages.claims(run)))


def _report(arguments: list[str]) -> None:
    path, rest = _take(arguments, "report", "RUN", "runs/cart-pole-quick-seed0")
    if path is None or {"-h", "--help"} & set(rest):
        print("usage: muscope report RUN\n\nDraw a run's figures and write its report.html.")
        return
    if rest:
        raise ConfigError(f"'report' takes one run and no options, not {rest[0]}.")
    print(stages.report(path))


@dataclass(frozen=True)
class _FilmOptions:
    """Options of film."""

    agent: int = 0
    """Which of the run's agents plays."""
    step: int | None = None
    """Its training step; the last checkpoint by default."""
    seed: int = 0
    """Of the episode's start and of the actions."""
    out: Path | None = None
    """The file; RUN/film.gif by default, which the report shows."""


def _film(arguments: list[str]) -> None:
    path, rest = _take(arguments, "film", "RUN", "runs/cart-pole-quick-seed0")
    options = tyro.cli(
        _FilmOptions,
        args=rest,
        prog=f"muscope film {path or 'RUN'}",
        description="Film one episode of an agent, and what its model believed of it.",
    )
    if path is not None:
        print(stages.film(path, options.agent, options.step, options.out, options.seed))


def _take(
    arguments: list[str], command: str, what: str, example: str
) -> tuple[str | None, list[str]]:
    """The leading positional argument and the rest; None if only help is asked for.

    Raises:
        ConfigError: it is missing.

    """
    if arguments and not arguments[0].startswith("-"):
        return arguments[0], arguments[1:]
    if {"-h", "--help"} & set(arguments):
        return None, arguments
    raise ConfigError(f"'{command}' needs {what} first, as in: muscope {command} {example}")


def _value_of(flag: str, arguments: list[str]) -> str | None:
    """The value given to ``flag`` on the command line, before it is parsed in full."""
    for i, argument in enumerate(arguments):
        if argument == flag and i + 1 < len(arguments):
            return arguments[i + 1]
        if argument.startswith(flag + "="):
            return argument.split("=", 1)[1]
    return None


if __name__ == "__main__":
    main()
