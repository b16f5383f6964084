"""Model families: one object each, with all that the rest of the package knows about an architecture."""
