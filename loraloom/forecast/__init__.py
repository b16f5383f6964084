"""Memory, time and disk space that training will take, predicted before the first step."""
