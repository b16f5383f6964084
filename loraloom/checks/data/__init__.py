"""Checks of the data alone, without model or torch. A check is a function listed in `data_suite.py`."""
