"""Commands that begin with settings: ``plan``, ``study``, ``train`` and ``sweep``."""

from __future__ import annotations

import dataclasses
import shlex
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import tyro

from muscope import envs, flags, presets, stages, studies, sweeps, variants
from muscope.cli.arguments import auxiliary_losses, experiments, names, take, value_of
from muscope.config import Config, EnvironmentConfig, RayConfig, Settings, to_dict
from muscope.config.base import from_dict, within
from muscope.envs.registry import options_class
from muscope.errors import ConfigError
from muscope.forecast import calibrate, devices
from muscope.forecast.text import as_text
from muscope.learning.terms import registry as terms


@dataclass(frozen=True)
class _NewRun:
    """Options of what makes a run."""

    preset: str = "quick"
    """The settings to start from: quick (two CPU cores) or paper (its full scale, in its likely
    regime).  Cart Pole and Lunar Lander also have strong (the same scale in ours), Cart Pole
    strong-quick, Breakout gpu (one GPU, 25 minutes); environments that nobody has tuned have only
    quick."""
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
class _Figures(_NewRun):
    """Options of what looks at a whole study."""

    figures: str = "all"
    """Which figures: numbers or names with commas between, such as 2,3,endings, or your own
    (my_figure.py:EXPERIMENT); or all."""


@dataclass(frozen=True)
class _Study(_Figures):
    """Options of study."""

    runner: Literal["local", "ray"] = "local"
    """Who does the work: this process, or a Ray cluster (needs the extra ray)."""
    ray: RayConfig = field(default_factory=RayConfig)
    """How jobs are given to Ray."""


OPTIONS = "environment.options"
TERMS = f"{terms.SECTION}."
AnyNewRun = TypeVar("AnyNewRun", bound=_NewRun)


def _new_run(
    command: str, arguments: list[str], kind: type[AnyNewRun]
) -> tuple[Config, Path, AnyNewRun]:
    """The run's config, its directory and the command's options, from a preset with the flags'
    changes.
    """
    environment, rest = take(arguments, command, "ENV", "|".join(envs.names()))
    environment = environment or "cart-pole"
    options = options_class(environment)
    given = _options_given(options, rest) if options is not None else {}
    envs.make(EnvironmentConfig(environment, options=given))
    preset = presets.preset(environment, value_of("--preset", rest) or "quick", given)
    base = stages.resolved(preset)
    extra = {**experiments(base.experiments, rest), **auxiliary_losses(base, rest)}
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
    of_terms = {name: sections.pop(name) for name in [*sections] if name.startswith(TERMS)}
    config = dataclasses.replace(
        config,
        environment=dataclasses.replace(
            config.environment, options=to_dict(own) if own is not None else {}
        ),
        experiments={name: to_dict(settings) for name, settings in sections.items()},
        terms={
            name.removeprefix(TERMS): changes
            for name, given in of_terms.items()
            if (changes := _changes(given))
        },
    )
    if not presets.has_preset(environment):
        print(
            f"muscope: nobody has chosen settings for '{environment}'; general ones are taken "
            f"where no flag gives others, in all: {_said(config)} ('--help' lists all).",
            file=sys.stderr,
        )
    label = envs.make(config.environment).spec.name.replace(":", "-")
    default = Path("runs") / f"{label}-{command_options.preset}-seed{config.train.seed}"
    return config, command_options.out or default, command_options


def _said(config: Config) -> str:
    """The settings of a config that are not the defaults, in one line."""
    plain, own = to_dict(Config()), to_dict(config)
    sections = [
        s for s in plain if isinstance(plain[s], dict) and s not in ("experiments", "terms")
    ]
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
    return _changes(parsed.options)


def _changes(settings: Settings) -> dict[str, Any]:
    """Those of some settings that are not their defaults."""
    plain = to_dict(type(settings)())
    return {name: value for name, value in to_dict(settings).items() if value != plain[name]}


@dataclass(frozen=True)
class _Plan(_Figures):
    """Options of plan."""

    gpu: Annotated[str, tyro.conf.arg(metavar="|".join(devices.GPUS))] = ""
    """Estimate the seconds of one such GPU from its data sheet instead of measuring here."""
    calibration: Annotated[int, *within(0, 3_600)] = calibrate.SECONDS
    """Seconds after which calibration compiles nothing further; 0 for a first guess without any."""


def plan(arguments: list[str]) -> None:
    """What a study with these settings will cost."""
    config, out, options = _new_run("plan", arguments, _Plan)
    if options.gpu:
        devices.gpu(options.gpu)  # Known, before anything takes time.
    told = stages.plan(config, names(options.figures), options.gpu, options.calibration, out)
    print(as_text(told))


def study(arguments: list[str]) -> None:
    """All stages."""
    config, out, options = _new_run("study", arguments, _Study)
    ray = options.ray if options.runner == "ray" else None
    print(studies.study(config, out, names(options.figures), ray).report_path)


def train(arguments: list[str]) -> None:
    """The first stage alone."""
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
class _Sweep(_Figures):
    """Options of sweep."""

    out: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """The folder for the runs, each in one of its variant's name; it must be given."""
    vary: tyro.conf.UseAppendAction[
        Annotated[tuple[tuple[str, ...], ...], tyro.conf.arg(metavar="SECTION.SETTING VALUE...")]
    ] = ()
    """A setting and the values that it takes, all others as they are; each value is a variant.  Can
    be given several times."""
    variants: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="FILE.toml...")] = ()
    """Files of variants of several settings each: a table for each, such as [longer], and in it
    lines such as loss.unroll = 20."""


def _varied(base: Config, words: tuple[str, ...]) -> tuple[str, list[Any]]:
    """A setting, and the values that ``--vary`` gives it."""
    name = words[0].replace("-", "_")
    like = variants.value_of(base, name)
    return name, [variants.value_in_words(value, like) for value in words[1:]]


def sweep(arguments: list[str]) -> None:
    """Variants of the settings, each trained and examined."""
    config, _, options = _new_run("sweep", arguments, _Sweep)
    if options.out is None:
        raise ConfigError("'sweep' needs --out DIR, the folder for its runs.")
    base = stages.resolved(config)
    given = variants.one_by_one(base, [_varied(base, words) for words in options.vary if words])
    for file in options.variants:
        given |= variants.read(file, given)
    again = f"'{shlex.join(['muscope', 'sweep', *arguments])}'"
    sweeps.sweep(base, given, options.out, names(options.figures), again)
    print(options.out)
