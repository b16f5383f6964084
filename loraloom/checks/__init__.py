"""Checks before training: functions that examine real data and the model, and return findings."""
