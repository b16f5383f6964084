"""Sizes of a server that its processes share."""

MAX_ROWS = 64  # answers that are generated together
