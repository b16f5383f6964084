"""A model that answers requests for many adapters in one batch, in a process of its own."""
