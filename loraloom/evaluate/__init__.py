"""Evaluation of a base and its adapters on held-out rows: losses, answers, metrics."""
