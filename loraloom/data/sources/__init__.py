"""Source texts: the pieces they consist of, and their truncation."""
