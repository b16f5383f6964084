"""The data files of a recipe: their location, their names, and detection of changes."""
