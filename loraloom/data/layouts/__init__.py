"""Data layouts: which columns hold the question and which the answer."""
