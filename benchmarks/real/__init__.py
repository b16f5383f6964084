"""Trained models that public packages contain, on which the whole job is run: `make real`."""
