"""The paper's experiments: settings, run (checkpoints to a table) and plot (table to figure)."""
