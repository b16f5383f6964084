"""The name of the argument with which a decoder receives its cache."""

from __future__ import annotations

import inspect
from typing import Any


def cache_keyword(decoder: Any) -> str:
    """Return a decoder's name for its cache: transformers 5.24 renamed `past_key_values`, with a warning."""
    return "cache" if "cache" in inspect.signature(decoder.forward).parameters else "past_key_values"
