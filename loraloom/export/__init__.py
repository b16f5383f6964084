"""Verified folders for other programs: an adapter merged into its base, or exported to a format."""
