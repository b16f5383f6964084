"""Rows in files: data larger than memory, read through memory maps, with the same results as in memory."""
