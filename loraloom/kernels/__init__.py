"""Faster versions of computations that plain torch does in a few lines: losses, adapters, norms, attention.

A training step calls these functions instead of torch's. Next to each is a plain version, which tests compare
it with. On a GPU, many of them are a single kernel.
"""
