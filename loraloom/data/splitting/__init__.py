"""Splitting of the data into train, eval and test: the choice of the rows in each part."""
