"""The report stage: from tables to figures and one HTML page, and films of episodes."""
