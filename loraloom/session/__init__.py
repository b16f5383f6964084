"""The session of a run in one process: creation, resume, repair, and the material that commands work with."""
