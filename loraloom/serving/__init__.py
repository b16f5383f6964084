"""A model that runs in its own process and answers requests for many adapters in one batch."""
