"""Faster versions of computations that take a few plain lines: losses, adapters, norms, attention.

A step uses them as it uses torch. Each has a plain version next to it, with which tests compare it, and many
are a single kernel on a GPU.
"""
