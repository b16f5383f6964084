"""Train, eval and test: which rows are whose."""
