"""Workers: processes that train waves for the process that writes a run."""
