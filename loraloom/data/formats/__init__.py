"""File formats: bytes of a data file to rows, each knowing its line."""
