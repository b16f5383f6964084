"""Checks of the data alone, without model or torch; each is a function in `data_suite.py`."""
