"""One file per command; each reads a recipe or a run and adds files to a run."""
