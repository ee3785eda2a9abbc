"""Settings of all experiments at once, for presets."""

from __future__ import annotations

from typing import Any


def looks(
    *,
    sequences: int = 32,
    every: int = 8,
    search: tuple[int, ...] = (),
    search_simulations: int = 64,
    planning: tuple[int, ...] = (),
    simulations: tuple[int, ...] = (1, 4, 16, 64),
    horizon: int = 16,
    moves: int = 0,
    episodes: int = 10,
    q_horizon: int = 100,
) -> dict[str, dict[str, Any]]:
    """Settings of all experiments, where several share a number.

    Args:
        sequences: R of Figures 3 and 5, of endings and decisions.
        every: h of Figure 4.
        search: checkpoints of Figure 6.
        search_simulations: its N.
        planning: checkpoints of Figure 7 and of the decisions.
        simulations: N of Figure 7; decisions use the last.
        horizon: H of Figures 6 and 7 and of the decisions.
        moves: most moves of an episode in Figure 7.
        episodes: of Figure 7, per planner.
        q_horizon: steps that a decision's worth is counted over.

    """
    drawn = {"sequences": sequences}
    decided = {"checkpoints": planning, "simulations": simulations[-1], "horizon": horizon}
    return {
        "figure3": drawn,
        "endings": drawn,
        "figure4": {"horizon": every},
        "figure5": drawn,
        "figure6": {"checkpoints": search, "simulations": search_simulations, "horizon": horizon},
        "figure7": {
            "checkpoints": planning,
            "simulations": simulations,
            "horizon": horizon,
            "steps": moves,
            "episodes": episodes,
        },
        "decisions": {**decided, "q_horizon": q_horizon, **drawn},
    }
