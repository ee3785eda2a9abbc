"""The command line: ``muscope study | train | evaluate | examine | claims | report | film``."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import tyro

from muscope import doors, envs, exits, flags, presets, runtime, stages
from muscope.claims import as_text
from muscope.config import Config, EnvironmentConfig, EvaluateConfig, Settings, to_dict
from muscope.config.base import Seed, Step, from_dict, within
from muscope.envs.registry import options_class
from muscope.errors import ConfigError, nearest
from muscope.experiments import registry
from muscope.version import __version__

SUMMARY = """A microscope for the models that MuZero learns.

  muscope study ENV        train a population, examine its checkpoints, write a report
  muscope train ENV        the first stage alone; resumes an interrupted run
  muscope merge RUN RUN... runs of different agents, trained apart, as one
  muscope evaluate RUN     the second: checkpoints to tables
  muscope examine AGENT    anybody's agent: tables, figures, claims and a report
  muscope claims RUN...    the paper's claims, judged from the tables of one or more runs
  muscope report RUN       the third: tables to figures, claims and report.html
  muscope film RUN         one episode of an agent as a GIF, and what its model believed of it

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
        "study": _study,
        "train": _train,
        "merge": _merge,
        "evaluate": _evaluate,
        "examine": _examine,
        "claims": _claims,
        "report": _report,
        "film": _film,
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
    computes = name not in ("claims", "merge", "report")  # These start devices if they need any.
    if computes and not {"-h", "--help"} & set(rest):
        runtime.start()
    commands[name](rest)


# Settings that a command offers as flags.


@dataclass(frozen=True)
class _NewRun:
    """Options of what makes a run."""

    preset: str = "quick"
    """The settings to start from: quick (two CPU cores) or paper (its full scale); Breakout also
    has gpu (one GPU, 25 minutes), environments that nobody has tuned only quick."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """The run's directory; by default runs/ENV-PRESET-seedSEED."""


@dataclass(frozen=True)
class _Train(_NewRun):
    """Options of train."""

    blocks: str = "all"
    """Which blocks of agents (see train.block), by number with commas between; or all.  Other
    processes may train the others, in the same directory or in one of their own that
    'muscope merge' puts together."""


@dataclass(frozen=True)
class _Study(_NewRun):
    """Options of study."""

    figures: str = "all"
    """Which figures: numbers or names with commas between, such as 2,3,endings, or your own
    (my_figure.py:EXPERIMENT); or all."""


def _experiments(given: Any, arguments: list[str]) -> dict[str, Any]:
    """Settings of all experiments that have any, those of users' figures named in the arguments
    included.
    """
    _names(_value_of("--figures", arguments) or "all")
    return {
        name: from_dict(given.get(name, {}), experiment.settings, name)
        for name, experiment in registry.everything().items()
        if dataclasses.fields(experiment.settings)
    }


def _names(figures: str) -> list[str] | None:
    """What ``--figures`` asks for, registered if it is the user's own.

    Raises:
        ConfigError: there is no such figure.

    """
    if figures == "all":
        return None
    return [registry.get(name.strip()).name for name in figures.split(",")]


OPTIONS = "environment.options"
AnyNewRun = TypeVar("AnyNewRun", bound=_NewRun)


def _new_run(
    command: str, arguments: list[str], kind: type[AnyNewRun]
) -> tuple[Config, Path, AnyNewRun]:
    """The run's config, its directory and the command's options, from a preset with the flags'
    changes.
    """
    environment, rest = _take(arguments, command, "ENV", "|".join(envs.names()))
    environment = environment or "cart-pole"
    options = options_class(environment)
    given = _options_given(options, rest) if options is not None else {}
    envs.make(EnvironmentConfig(environment, options=given))
    preset = presets.preset(environment, _value_of("--preset", rest) or "quick", given)
    base = stages.resolved(preset)
    if not presets.has_preset(environment):
        print(
            f"muscope: nobody has chosen settings for '{environment}'; general ones are taken: "
            f"{_said(base)} ('--help' lists all).",
            file=sys.stderr,
        )
    extra = _experiments(base.experiments, rest)
    if options is not None:
        extra[OPTIONS] = from_dict(base.environment.options, options, OPTIONS)
    parse = flags.parser(
        kind(base.preset),
        base,
        extra,
        f"muscope {command} {environment}",
        f"Settings of '{environment}', starting from preset '{base.preset}'.",
    )
    command_options, config, sections = parse(rest)
    own = sections.pop(OPTIONS, None)
    config = dataclasses.replace(
        config,
        environment=dataclasses.replace(
            config.environment, options=to_dict(own) if own is not None else {}
        ),
        experiments={name: to_dict(settings) for name, settings in sections.items()},
    )
    label = envs.make(config.environment).spec.name.replace(":", "-")
    default = Path("runs") / f"{label}-{command_options.preset}-seed{config.train.seed}"
    return config, command_options.out or default, command_options


def _said(config: Config) -> str:
    """The settings of a config that are not the defaults, in one line."""
    plain, own = to_dict(Config()), to_dict(config)
    sections = [s for s in plain if isinstance(plain[s], dict) and s != "experiments"]
    return ", ".join(
        f"{section}.{name} {value}"
        for section in sections
        for name, value in own[section].items()
        if value != plain[section][name] and name not in ("name", "options")
    )


def _options_given(options: type[Settings], arguments: list[str]) -> dict[str, Any]:
    """The environment's own settings among the arguments, which are needed to make it."""
    given = [a for a in arguments if a not in ("-h", "--help")]
    made = dataclasses.make_dataclass(
        "Options",
        [("options", flags.under(OPTIONS, options), dataclasses.field(default=options()))],
    )
    parsed: Any = flags.read(made, given, return_unknown_args=True)[0]
    plain, chosen = to_dict(options()), to_dict(parsed.options)
    return {name: value for name, value in chosen.items() if value != plain[name]}


def _study(arguments: list[str]) -> None:
    config, out, options = _new_run("study", arguments, _Study)
    print(stages.study(config, out, _names(options.figures)).report_path)


def _train(arguments: list[str]) -> None:
    config, out, options = _new_run("train", arguments, _Train)
    print(stages.train(config, out, _numbers(options.blocks)).path)


def _numbers(words: str) -> list[int] | None:
    """What ``--blocks`` asks for.

    Raises:
        ConfigError: it is no list of numbers.

    """
    if words == "all":
        return None
    numbers = [word.strip() for word in words.split(",")]
    if not all(number.isdecimal() for number in numbers):
        raise ConfigError(f"--blocks is {words!r}; it must be numbers with commas between, or all.")
    return [int(number) for number in numbers]


@dataclass(frozen=True)
class _Merge:
    """Options of merge."""

    out: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """The new run's directory."""


def _merge(arguments: list[str]) -> None:
    helping = bool({"-h", "--help"} & set(arguments))
    at = next((i for i, a in enumerate(arguments) if a.startswith("-")), len(arguments))
    options = flags.read(
        _Merge,
        arguments[at:],
        prog="muscope merge RUN RUN...",
        description="Put runs of different agents, trained apart with equal settings, together.",
    )
    if not arguments[:at] and not helping:
        raise ConfigError("'merge' needs RUN first, as in: muscope merge part-0 part-1 --out whole")
    if options.out is None:
        raise ConfigError("'merge' needs --out DIR, a directory that is not there yet.")
    print(stages.merge(arguments[:at], options.out).path)


@dataclass(frozen=True)
class _Evaluate:
    """Options of evaluate."""

    figures: str = "all"
    """Which figures: numbers or names with commas between, such as 2,3,endings, or your own
    (my_figure.py:EXPERIMENT); or all."""


def _evaluate(arguments: list[str]) -> None:
    path, rest = _take(arguments, "evaluate", "RUN", "runs/cart-pole-quick-seed0")
    helping = {"-h", "--help"} & set(rest)
    run = stages.open_run(path) if path is not None and not helping else None
    parse = flags.parser(
        _Evaluate(),
        run.config.evaluate if run else EvaluateConfig(),
        _experiments(run.config.experiments if run else {}, rest),
        f"muscope evaluate {path or 'RUN'}",
        "Fill a run's tables from its checkpoints; finished cells are skipped.  A table that is "
        "there keeps the settings that were asked of it, unless a flag says otherwise.",
    )
    options, evaluate, sections = parse(rest)
    if run is None:
        return
    changes = {
        section: {name: value for name, value in to_dict(settings).items() if name in given}
        for section, settings in {"evaluate": evaluate, **sections}.items()
        if (given := _given(section, settings, rest))
    }
    stages.evaluate(run, _names(options.figures), changes)
    print(run.path / "tables")


def _given(section: str, settings: Settings, arguments: list[str]) -> set[str]:
    """The settings of a section that the arguments name, whatever value they give them."""
    flags = {argument.split("=", 1)[0].replace("_", "-") for argument in arguments}
    names = {field.name for field in dataclasses.fields(settings)}
    return {name for name in names if f"--{section}.{name}".replace("_", "-") in flags}


@dataclass(frozen=True)
class _Examine:
    """Options of examine."""

    out: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """The folder to fill; by default runs/ and the agent's name."""
    environment: str = ""
    """Of another package's checkpoint: an environment to play in other than its own game."""
    figures: str = "all"
    """Which figures: numbers or names with commas between, such as 2,3,endings, or your own
    (my_figure.py:EXPERIMENT); or all."""


def _examine(arguments: list[str]) -> None:
    name, rest = _take(arguments, "examine", "AGENT", "my_agent.py:subject")
    parse = flags.parser(
        _Examine(),
        EvaluateConfig(),
        _experiments({}, rest),
        f"muscope examine {name or 'AGENT'}",
        "Put anybody's agent under the microscope: tables, figures, claims and a report.",
    )
    options, evaluate, sections = parse(rest)
    if name is None:
        return
    subject = doors.find(name, options.environment)
    out = options.out or Path("runs") / subject.name
    settings = {section: to_dict(given) for section, given in sections.items()}
    folder = stages.examine(subject, out, _names(options.figures), evaluate, settings)
    print(folder.report_path)


def _claims(arguments: list[str]) -> None:
    if {"-h", "--help"} & set(arguments):
        print(
            "usage: muscope claims RUN... [--figures my_figure.py:EXPERIMENT]\n\nJudge the paper's "
            "claims from the tables of one or more runs; writes tables/claims.parquet.  Claims of "
            "figures of your own are judged if these are named."
        )
        return
    _take(arguments, "claims", "RUN", "runs/cart-pole-quick-seed0")
    paths = _with_figures(arguments)
    flags = [argument for argument in paths if argument.startswith("-")]
    if flags:
        raise ConfigError(f"'claims' takes runs and --figures, not {flags[0]}.")
    for i, path in enumerate(paths):
        table = stages.judge(path)
        environment = table["environment"][0].as_py()
        print("\n" * (i > 0) + f"{environment}, {path}:")
        print(as_text(table))


def _report(arguments: list[str]) -> None:
    path, rest = _take(arguments, "report", "RUN", "runs/cart-pole-quick-seed0")
    if path is None or {"-h", "--help"} & set(rest):
        print(
            "usage: muscope report RUN [--figures my_figure.py:EXPERIMENT]\n\nDraw a run's figures "
            "and write its report.html; figures of your own are drawn if they are named."
        )
        return
    strange = _with_figures(rest)
    if strange:
        raise ConfigError(f"'report' takes one run and --figures, not {strange[0]}.")
    print(stages.report(path))


def _with_figures(arguments: list[str]) -> list[str]:
    """The arguments without ``--figures`` and its value, whose figures are known from here on."""
    own = _value_of("--figures", arguments)
    if own is None:
        return arguments
    _names(own)
    return [
        argument
        for before, argument in zip(["", *arguments], arguments, strict=False)
        if "--figures" not in (before, argument.split("=", 1)[0])
    ]


@dataclass(frozen=True)
class _FilmOptions(Settings):
    """Options of film."""

    agent: Annotated[int, *within(0, 9_999)] = 0
    """Which of the run's agents plays."""
    step: Step | None = None
    """Its training step; the last checkpoint by default."""
    seed: Seed = 0
    """Of the episode's start and of the actions."""
    out: Path | None = None
    """The file; RUN/film.gif by default, which the report shows."""


def _film(arguments: list[str]) -> None:
    path, rest = _take(arguments, "film", "RUN", "runs/cart-pole-quick-seed0")
    options = flags.read(
        _FilmOptions,
        rest,
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
