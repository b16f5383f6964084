"""The name of the argument through which a decoder receives its cache."""

from __future__ import annotations

import inspect
from typing import Any


def cache_keyword(decoder: Any) -> str:
    """Return the name of a decoder's cache argument, which is `cache` since transformers 5.24."""
    return "cache" if "cache" in inspect.signature(decoder.forward).parameters else "past_key_values"
