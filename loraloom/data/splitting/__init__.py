"""Splitting into train, eval and test: the rows that each part consists of."""
