"""A model in its own process, which answers requests for many adapters in one batch."""
