"""Prompts: rows to answer, with or without a known answer."""
