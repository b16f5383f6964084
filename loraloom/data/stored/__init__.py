"""Rows in files, for data larger than memory: read through memory maps, with the same results."""
