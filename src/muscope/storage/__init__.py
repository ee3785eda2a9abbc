"""What a run leaves on disk: checkpoints, resumable state, tables."""
