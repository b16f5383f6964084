"""Checks of the data alone: no model, no torch. A check is a function, and its place in `suite.DATA`."""
