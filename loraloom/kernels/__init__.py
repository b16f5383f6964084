"""Faster ways to compute what a few plain lines say: losses, adapters, norms, attention.

A step uses them as it uses torch. Each has its plain version beside it, which tests compare it with, and many
are one kernel each on a GPU.
"""
