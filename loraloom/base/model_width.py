"""The width of a model, from the config.json of its folder, without transformers."""

from __future__ import annotations

import json
from pathlib import Path

from loraloom.base.supported_models import CONFIG

_NAMES = ("d_model", "hidden_size")
_INNER = ("decoder", "encoder", "text_config")  # where composed models have them


def width_of_folder(name: str) -> int | None:
    """Return d_model of a model's folder; None if it is not on this machine or does not say."""
    try:
        values = json.loads((Path(name) / CONFIG).read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return _width(values, depth=3)


def _width(values: object, depth: int) -> int | None:
    if not isinstance(values, dict) or depth == 0:
        return None
    for key in _NAMES:
        if type(values.get(key)) is int and values[key] > 0:
            return int(values[key])
    found = (_width(values.get(key), depth - 1) for key in _INNER)
    return next((width for width in found if width is not None), None)
