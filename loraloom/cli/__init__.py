"""The command line: thin commands, collected in `loraloom/cli/app.py`."""

from loraloom.cli.app import app, main

__all__ = ["app", "main"]
