"""Model families: one object each, and all that the rest of the package knows of an architecture."""
