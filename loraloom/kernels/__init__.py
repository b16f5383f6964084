"""Operations of a model as one kernel each on a GPU, every one with its plain version beside it."""
