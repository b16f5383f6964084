"""Errors that inconsistent files of a run may cause."""

from __future__ import annotations

# Raised by valid documents if one of them refers to something that another does not contain.
DAMAGE = (KeyError, TypeError, AttributeError, ValueError, OverflowError)
