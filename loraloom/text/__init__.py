"""Text formatting: figures with units, and escaping of invisible characters."""
