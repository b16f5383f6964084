"""Data: from a file to the batches that a model sees."""
