"""File formats: from the bytes of a data file to rows, each with its line number."""
