"""Source texts, the pieces they are made of, and how they are truncated."""
