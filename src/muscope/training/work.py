"""What training computes, counted from the settings."""

from __future__ import annotations

from muscope.config import Config
from muscope.work import Work, searching, within


def warmup_rounds(config: Config) -> int:
    """Rounds that only act, before the first update: whole calls that gather ``replay.start``."""
    calls = -(-config.replay.start // (config.train.lanes * config.train.call_rounds))
    return calls * config.train.call_rounds


def rounds(config: Config) -> int:
    """All rounds of a training."""
    return warmup_rounds(config) + config.train.steps // config.train.updates_per_round


def of_agent(config: Config) -> list[Work]:
    """One agent's whole training.  The game's resets are asked for in every lane and round."""
    train, count = config.train, rounds(config)
    roots = train.lanes + train.reanalysed_per_round
    works = [
        *searching(count, roots, (config.search.simulations,)),
        Work("environment", count, train.lanes),
        Work("reset", count, train.lanes),
        Work("update", train.steps, train.batch_size),
    ]
    return within(works, "training")


def positions(config: Config) -> int:
    """Positions that one agent's updates pass through the networks: B (K + 1) each."""
    return config.train.steps * config.train.batch_size * (config.loss.unroll + 1)
