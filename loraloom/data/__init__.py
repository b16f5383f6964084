"""From a data file to the batches a model sees."""
