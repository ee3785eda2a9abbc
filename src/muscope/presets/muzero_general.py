"""What muzero-general sets alike for Cart Pole and Lunar Lander, in ``games/cartpole.py`` and
``games/lunarlander.py`` at 0825bd5 where nothing else is said.

The paper gives no settings for them but K and the number of training steps, and its agents were
very likely muzero-general's (docs/choices.md has the evidence).
"""

from __future__ import annotations

from muscope.config import LossConfig, ReplayConfig, SearchConfig

SEARCH = SearchConfig(
    simulations=50,  # num_simulations
    dirichlet_alpha=0.25,  # root_dirichlet_alpha
    dirichlet_fraction=0.25,  # root_exploration_fraction
)
REPLAY = ReplayConfig(
    priority_exponent=0.5,  # PER_alpha
    importance_exponent=1.0,  # replay_buffer.py divides by the probabilities themselves.
)
LOSS = LossConfig(
    unroll=10,  # Section 4.1 of the paper, and num_unroll_steps
    value_weight=1.0,  # value_loss_weight
    unroll_weight=1.0,  # trainer.py: every unrolled step's gradient is divided by K.
    gradient_scale=0.5,  # trainer.py: the latent state's gradient is halved at every step.
)
