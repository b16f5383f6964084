"""The commands, one file each; most read a recipe or a run, and add files to a run."""
