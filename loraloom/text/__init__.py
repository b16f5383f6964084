"""How figures, sizes and durations are written, and characters that nobody sees: one way for each."""
