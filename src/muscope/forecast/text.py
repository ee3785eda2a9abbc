"""A forecast in words."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from muscope.forecast.forecast import REST, Forecast, Job, peak, title
from muscope.room import total
from muscope.training import work as training

WORTH_SAYING = 600.0
"""Seconds of a study from which on it begins with its summary."""


def duration(seconds: float) -> str:
    """40 s, 12 min, 3.5 h, 12 days."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.0f} min"
    if seconds < 100 * 3_600:
        return f"{seconds / 3_600:.1f} h"
    return f"{seconds / 86_400:,.0f} days"


def size(count: int) -> str:
    """34 MB, 1.2 GB."""
    return f"{count / 1e6:,.0f} MB" if count < 1e9 else f"{count / 1e9:,.1f} GB"


def number(count: int | None) -> str:
    """940, 12.3 K, 1.20 M; unknown."""
    if count is None:
        return "unknown"
    for scale, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "K")):
        if count >= scale:
            unit = 1e3 if letter == "K" else scale
            return (
                f"{count / unit:,.3g} {letter}" if count / unit < 1e3 else f"{count / unit:,.0f}K"
            )
    return f"{count:,}"


def summary(told: Forecast) -> str:
    """One line."""
    name, most = peak(told)
    unknown = f", without {', '.join(told.unknown)}" if told.unknown else ""
    return (
        f"{title(told.config)}: about {duration(told.seconds())}{unknown} ({told.rates.told}), "
        f"of it training {duration(told.stages[0].seconds)} and compilation "
        f"{duration(told.first_use.compiling)}; memory {size(most)} ({name}), disk "
        f"{size(total(told.disk))}"
    )


def as_text(told: Forecast) -> str:
    """The whole forecast."""
    return "\n".join([*_head(told), "", *_stages(told), "", *_sums(told), "", *_jobs(told)])


def _head(told: Forecast) -> Iterator[str]:
    train = told.config.train
    yield (
        f"{title(told.config)}: {train.agents} agents, {train.steps:,} training steps, "
        f"{len(train.schedule)} checkpoints"
    )
    yield f"seconds: {told.rates.told}"
    yield "counts: all agents and checkpoints, every game played to the time limit"


def _stages(told: Forecast) -> Iterator[str]:
    heads = ("stage", "jobs", "searches", "model steps", "env. steps", "time", "at most")
    yield _row(*heads)
    for stage in told.stages:
        known = stage.works is not None
        yield _row(
            stage.name,
            "" if stage.shared else str(len(stage.jobs)),
            number(stage.count("search")),
            number(stage.count("model")),
            number(stage.count("environment")),
            duration(stage.seconds) if known else "unknown",
            duration(stage.most) if known else "unknown",
        )


def _row(name: str, *rest: str) -> str:
    return f"{name:<20}" + "".join(f"{value:>13}" for value in rest)


def _sums(told: Forecast) -> Iterator[str]:
    train, first = told.config.train, told.first_use
    positions = number(train.agents * training.positions(told.config))
    yield (
        f"updates: {number(train.agents * train.steps)}, with {positions} positions through the "
        "networks, forward and backward"
    )
    if told.rates.longest_random:
        yield (
            "games: untrained agents are expected to play like random ones (the longest of some "
            f"has {told.rates.longest_random} moves), all others to the time limit"
        )
    yield (
        f"first use of programs: {duration(first.tracing + first.compiling)}; "
        f"{duration(first.tracing)} with a full cache"
    )
    yield f"start, saves, figures, film and report: {duration(REST)}"
    yield (
        f"in all: {duration(told.seconds())}, with a full cache "
        f"{duration(told.seconds(cached=True))}; at most {duration(told.seconds(most=True))}"
    )
    for name in told.unknown:
        yield f"not in it: {name}, which gives no count of its work"
    for name, parts in told.memory:
        greatest = max(parts, key=lambda part: part.size)
        yield f"memory, {name}: {size(total(parts))}, of it {greatest.what} {size(greatest.size)}"
    listed = ", ".join(f"{part.what} {size(part.size)}" for part in told.disk)
    yield f"disk: {size(total(told.disk))} ({listed})"


def _jobs(told: Forecast) -> Iterator[str]:
    yield "jobs, each of which can be run by itself:"
    for stage, jobs in itertools.groupby(told.jobs, lambda job: job.stage):
        yield f"  {stage}: {'; '.join(_grouped(list(jobs)))}"


def _grouped(jobs: list[Job]) -> Iterator[str]:
    for agents in dict.fromkeys(job.agents for job in jobs):
        steps = [job.step for job in jobs if job.agents == agents and job.step is not None]
        numbers = f"agent {agents[0]}" if len(agents) == 1 else f"agents {agents[0]}..{agents[-1]}"
        yield f"{numbers} at {', '.join(f'{s:,}' for s in steps)}" if steps else numbers
