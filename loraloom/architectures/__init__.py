"""Model families: one object for each, with everything that the package knows about the architecture."""
