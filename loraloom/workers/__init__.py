"""Workers: processes, on this machine or others, that train waves for the process that writes the run."""
