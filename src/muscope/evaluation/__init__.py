"""What can be asked of one checkpoint's model, as pure functions; no tables, no pictures."""
