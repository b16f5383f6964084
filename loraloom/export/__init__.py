"""Folders for other programs: an adapter merged into its base or exported, and verified."""
