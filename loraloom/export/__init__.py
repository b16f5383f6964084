"""An adapter merged into its base, as a folder for other programs, and the proof that it is equal."""
