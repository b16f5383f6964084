"""Checks before training: each one a function that runs the real thing and returns findings."""
