"""Workers: processes that train waves of a run for the process that writes it, on this machine or others."""
