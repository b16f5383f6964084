"""Merging of an adapter into its base as a folder for other programs, with proof of equality."""
