"""Sentences in the package's sources that stay as they are: file -> how each begins -> why."""

ALLOWED: dict[str, dict[str, str]] = {}
