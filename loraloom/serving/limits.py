"""Limits that the processes of a server share."""

MAX_ROWS = 64  # answers that are generated together
