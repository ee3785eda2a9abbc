"""Commands about runs and agents that are there: ``merge``, ``pool``, ``job``, ``evaluate``,
``examine``, ``claims``, ``compare``, ``report``, ``film``, ``look`` and ``tensorboard``.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from muscope import comparing, doors, examination, flags, looking, pooling, stages
from muscope.claims import as_text
from muscope.cli.arguments import experiments, names, take, value_of
from muscope.config import EvaluateConfig, Settings, to_dict
from muscope.config.base import Count, NonNegative, Seed, Step, Whole, within
from muscope.errors import ConfigError


@dataclass(frozen=True)
class _Together:
    """Options of merge and pool."""

    out: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """The new directory."""


def _together(command: str, arguments: list[str], description: str) -> tuple[list[str], Path]:
    """The runs that are put together, and where."""
    helping = bool({"-h", "--help"} & set(arguments))
    at = next((i for i, a in enumerate(arguments) if a.startswith("-")), len(arguments))
    options = flags.read(
        _Together,
        arguments[at:],
        prog=f"muscope {command} RUN RUN...",
        description=description,
    )
    if not arguments[:at] and not helping:
        raise ConfigError(
            f"'{command}' needs RUN first, as in: muscope {command} part-0 part-1 --out whole"
        )
    if options.out is None:
        raise ConfigError(f"'{command}' needs --out DIR, a directory that is not there yet.")
    return arguments[:at], options.out


def merge(arguments: list[str]) -> None:
    """Runs of different agents, as one."""
    runs, out = _together(
        "merge",
        arguments,
        "Put runs of different agents, trained apart with equal settings, together.",
    )
    print(stages.merge(runs, out).path)


def pool(arguments: list[str]) -> None:
    """Runs of different seeds, as one, by their tables."""
    runs, out = _together(
        "pool",
        arguments,
        "Judge and draw the agents of runs of different seeds, looked at alike, as those of one, "
        "by their tables alone.",
    )
    print(pooling.pool(runs, out).report_path)


def job(arguments: list[str]) -> None:
    """One job of a study that was begun on a cluster."""
    if {"-h", "--help"} & set(arguments):
        print(
            "usage: muscope job RUN NAME\n\nDo one job of a study that was begun with --runner "
            "ray, in this process; a study tells the names of those that failed."
        )
        return
    path, rest = take(arguments, "job", "RUN NAME", "runs/cart-pole-quick-seed0 train-0000-0003")
    if len(rest) != 1:
        raise ConfigError("'job' needs RUN and NAME, as in: muscope job RUN train-0000-0003")
    stages.job(str(path), rest[0])


@dataclass(frozen=True)
class _Evaluate:
    """Options of evaluate."""

    figures: str = "all"
    """Which figures: numbers or names with commas between, such as 2,3,endings, or your own
    (my_figure.py:EXPERIMENT); or all."""


def evaluate(arguments: list[str]) -> None:
    """From checkpoints to tables."""
    path, rest = take(arguments, "evaluate", "RUN", "runs/cart-pole-quick-seed0")
    helping = {"-h", "--help"} & set(rest)
    run = stages.open_run(path) if path is not None and not helping else None
    parse = flags.parser(
        _Evaluate(),
        run.config.evaluate if run else EvaluateConfig(),
        experiments(run.config.experiments if run else {}, rest),
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
    stages.evaluate(run, names(options.figures), changes)
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


def examine(arguments: list[str]) -> None:
    """Anybody's agent."""
    name, rest = take(arguments, "examine", "AGENT", "my_agent.py:subject")
    parse = flags.parser(
        _Examine(),
        EvaluateConfig(),
        experiments({}, rest),
        f"muscope examine {name or 'AGENT'}",
        "Put anybody's agent under the microscope: tables, figures, claims and a report.",
    )
    options, evaluate, sections = parse(rest)
    if name is None:
        return
    subject = doors.find(name, options.environment)
    out = options.out or Path("runs") / subject.name
    settings = {section: to_dict(given) for section, given in sections.items()}
    folder = examination.examine(subject, out, names(options.figures), evaluate, settings)
    print(folder.report_path)


def claims(arguments: list[str]) -> None:
    """The paper's claims, judged from the tables."""
    if {"-h", "--help"} & set(arguments):
        print(
            "usage: muscope claims RUN... [--figures my_figure.py:EXPERIMENT]\n\nJudge the paper's "
            "claims from the tables of one or more runs; writes tables/claims.parquet.  Claims of "
            "figures of your own are judged if these are named."
        )
        return
    take(arguments, "claims", "RUN", "runs/cart-pole-quick-seed0")
    paths = _with_figures(arguments)
    strange = [argument for argument in paths if argument.startswith("-")]
    if strange:
        raise ConfigError(f"'claims' takes runs and --figures, not {strange[0]}.")
    for i, path in enumerate(paths):
        table = stages.judge(path)
        environment = table["environment"][0].as_py()
        print("\n" * (i > 0) + f"{environment}, {path}:")
        print(as_text(table))


@dataclass(frozen=True)
class _Compare:
    """Options of compare."""

    out: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """The folder for the page and its tables; by default a sweep's own, or runs/comparison."""


def compare(arguments: list[str]) -> None:
    """Runs, or a sweep's, held against the first of them."""
    paths = _with_figures(arguments)
    at = next((i for i, a in enumerate(paths) if a.startswith("-")), len(paths))
    options = flags.read(
        _Compare,
        paths[at:],
        prog="muscope compare RUN RUN... [--figures my_figure.py:EXPERIMENT]",
        description="Hold runs against the first of them, or a sweep's variants against its base: "
        "curves, differences with intervals, claims.  Figures of your own are compared if they are "
        "named.",
    )
    print(comparing.compare(paths[:at], options.out))


@dataclass(frozen=True)
class _Report:
    """Options of report."""

    out: Annotated[Path | None, tyro.conf.arg(metavar="FILE.html")] = None
    """The page; by default RUN/report.html.  A page of several runs needs one."""
    figures: str = ""
    """Figures of your own (my_figure.py:EXPERIMENT), with commas between; others are drawn
    anyway."""


def report(arguments: list[str]) -> None:
    """From tables to a report."""
    at = next((i for i, a in enumerate(arguments) if a.startswith("-")), len(arguments))
    paths, rest = arguments[:at], arguments[at:]
    helping = bool({"-h", "--help"} & set(rest))
    if not paths and not helping:
        take(arguments, "report", "RUN", "runs/cart-pole-quick-seed0")
    options = flags.read(
        _Report,
        rest,
        prog="muscope report RUN...",
        description="Draw a run's figures and write its report.html; or, of several runs, one "
        "page with a column for each.",
    )
    if options.figures:
        names(options.figures)
    print(stages.report(*paths, out=options.out))


def _with_figures(arguments: list[str]) -> list[str]:
    """The arguments without ``--figures`` and its value, whose figures are known from here on."""
    own = value_of("--figures", arguments)
    if own is None:
        return arguments
    names(own)
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
    """The file, a GIF or an MP4 by its name; RUN/film.gif by default, which the report shows."""


def film(arguments: list[str]) -> None:
    """One episode of an agent."""
    path, rest = take(arguments, "film", "RUN", "runs/cart-pole-quick-seed0")
    options = flags.read(
        _FilmOptions,
        rest,
        prog=f"muscope film {path or 'RUN'}",
        description="Film one episode of an agent, and what its model believed of it.",
    )
    if path is not None:
        print(stages.film(path, options.agent, options.step, options.out, options.seed))


@dataclass(frozen=True)
class _TensorboardOptions(Settings):
    """Options of tensorboard."""

    follow: NonNegative = 0.0
    """Seconds between looks, until the run is trained; 0 to look once."""
    out: Path | None = None
    """A directory of its own, which is replaced; RUN/tensorboard by default."""


def tensorboard(arguments: list[str]) -> None:
    """Training curves for TensorBoard."""
    path, rest = take(arguments, "tensorboard", "RUN", "runs/cart-pole-quick-seed0")
    options = flags.read(
        _TensorboardOptions,
        rest,
        prog=f"muscope tensorboard {path or 'RUN'}",
        description="Write a run's training curves to TensorBoard's event files, one directory "
        "per agent; 'tensorboard --logdir' shows them.",
    )
    if path is not None:
        print(stages.tensorboard(path, options.out, options.follow or None))


@dataclass(frozen=True)
class _LookOptions(Settings):
    """Options of look."""

    agent: Annotated[int, *within(0, 9_999)] = 0
    """Which of the run's agents plays."""
    step: Step | None = None
    """Its training step; the last checkpoint by default."""
    episode: Seed = 0
    """A film's seed: the episode that 'muscope film' shows."""
    move: Whole = 0
    """Of the episode, from 0."""
    returns: Count = 16
    """Episodes that tell a true return."""
    out: Path | None = None
    """The page; by default in RUN/look/."""
    chosen: bool = False
    """--chosen alone is True: look at three of the states of decisions instead: one of typical
    model error, that of the worst, and the costliest decision."""


def look(arguments: list[str]) -> None:
    """One state of an agent."""
    path, rest = take(arguments, "look", "RUN", "runs/cart-pole-quick-seed0")
    options = flags.read(
        _LookOptions,
        flags.switched(rest, "--chosen"),
        prog=f"muscope look {path or 'RUN'}",
        description="Look at one state of an agent: its search's tree, and beside every node what "
        "is true; what each planner would do, and what that is worth.",
    )
    if path is not None:
        if options.chosen:
            print(*looking.look_at_chosen(path, options.returns), sep="\n")
            return
        print(
            looking.look(
                path,
                options.agent,
                options.step,
                options.episode,
                options.move,
                options.returns,
                options.out,
            )
        )
