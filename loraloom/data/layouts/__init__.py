"""Data layouts: which columns contain the question and which the answer."""
