"""Faster versions of computations that take a few plain lines: losses, adapters, norms, attention.

A training step calls these functions in place of torch's. Next to each is a plain version, with which tests
compare it. On a GPU, many of them are a single kernel.
"""
