"""The record of a run: its folder, its files, its events, and verification that they are unchanged."""
