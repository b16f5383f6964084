"""The files that a recipe's data names: where they are, what they are called, whether they changed."""
