"""Replay, targets, loss and the update of one agent."""
