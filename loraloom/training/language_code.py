"""The Python code in a card that sets the source and answer languages."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from loraloom.data.languages.codes import Pairs


def language_code(pairs: Pairs, origin: Mapping[str, Any], *, is_in_config: bool) -> tuple[str, str]:
    """Return a line to run before tokenizing, and arguments for `generate`; both are "" if `pairs` is empty.

    Args:
        pairs: pairs of languages that the adapter was trained on; the code uses the first.
        origin: contents of loraloom.json.
        is_in_config: whether the folder's files already set a source or target language that all pairs share.
    """
    if not pairs:
        return "", ""
    source, target = pairs[0]
    sources, targets = ({pair[side] for pair in pairs} for side in (0, 1))
    comment = "" if len(sources) == 1 else f"  # or {', '.join(sorted(sources - {source}))}"
    told = f"tokenizer.src_lang = {json.dumps(source)}{comment}\n"
    # None prevents `generate` from using the base's forced token.
    start, forced = _start(origin, target)
    more = "" if start is None else f", decoder_start_token_id={start}, forced_bos_token_id={forced}"
    if is_in_config:
        told, more = told if len(sources) > 1 else "", more if len(targets) > 1 else ""
    return told, more


def begins_with_code(pairs: Pairs, origin: Mapping[str, Any]) -> bool:
    """Return whether the first token of an answer is the code of its language."""
    return bool(pairs) and _start(origin, pairs[0][1])[1] is not None


def _start(origin: Mapping[str, Any], target: str) -> tuple[int | None, int | None]:
    known = origin.get("decoder_starts")
    found = known.get(target) if isinstance(known, dict) else None
    return (found[0], found[1]) if isinstance(found, list) and len(found) == 2 else (None, None)
