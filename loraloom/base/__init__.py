"""The frozen model: loading it, what its family needs, and which of its modules can be adapted."""
