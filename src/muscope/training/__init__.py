"""Training populations of agents, with checkpoints and exact resume."""
