"""Rows to answer, whose answers may be unknown."""
