"""Rows in files, for data larger than memory: memory-mapped, with the same results as rows in memory."""
