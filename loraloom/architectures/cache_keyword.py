"""The name under which a decoder takes its cache."""

from __future__ import annotations

import inspect
from typing import Any


def cache_keyword(decoder: Any) -> str:
    """What a decoder calls its cache: transformers 5.24 renamed `past_key_values`, and warns of it."""
    return "cache" if "cache" in inspect.signature(decoder.forward).parameters else "past_key_values"
