"""Memory, time and disk that a training will take, predicted before the first step."""
