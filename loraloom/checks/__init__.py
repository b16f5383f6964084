"""Checks before training: functions that examine real data and the real model and return findings."""
