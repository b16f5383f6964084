"""Checks that need only the data, not the model or torch; `data_suite.py` lists them."""
