"""A run in the hands of one process: created, resumed, repaired, and what it works with."""
