"""The languages of a merged model: what its tokenizer assumes, and what its users must state."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from loraloom.base.loading import Base
from loraloom.base.safety import TOKENIZER_CONFIG
from loraloom.data.languages.codes import Languages, Pairs
from loraloom.run.atomic import write_bytes
from loraloom.text.message import Message, joined

SHOWN_PAIRS = 8


def only(names: Sequence[str]) -> str | None:
    """Return the name if all names are the same; None if they differ, or if there are no names."""
    return names[0] if len(set(names)) == 1 else None


def frame_of(base: Base, pairs: Pairs) -> list[int] | None:
    """Return the special tokens that the merged tokenizer adds to every source.

    None if the base is not multilingual, or if the adapter was trained on several source languages.
    """
    source = only([source for source, _ in pairs])
    if base.languages is None or source is None:
        return None
    return base.languages.source([base.eos_token_id], source)


def set_languages(base: Base, folder: Path, pairs: Pairs) -> list[str]:
    """Set the saved tokenizer's source and target language to that of training, where training had only one.

    Args:
        base: the base whose tokenizer was saved.
        folder: folder of the merged model.
        pairs: language pairs that the adapter was trained on.

    Returns:
        Notes on what differs from the base's folder.
    """
    found = {"src_lang": only([source for source, _ in pairs]), "tgt_lang": only([each for _, each in pairs])}
    changes = {key: code for key, code in found.items() if code is not None}
    file = folder / TOKENIZER_CONFIG
    if base.languages is None or not changes or not file.is_file():
        return []
    values = json.loads(file.read_text(encoding="utf-8"))
    write_bytes(file, json.dumps({**values, **changes}, ensure_ascii=False, indent=2).encode())
    said = joined(" and ", (f"{key} {code}" for key, code in changes.items()))
    return [
        Message(
            "the merged folder's {tokenizer_config} sets {said}, as in training",
            tokenizer_config=TOKENIZER_CONFIG,
            said=said,
        )
    ]


def how_to_ask(languages: Languages, tokenizer: Any) -> tuple[str, str]:
    """Return two names: the `generate` argument for a language, and the tokenizer method for its id."""
    key = "forced_bos_token_id" if languages.begins_target else "decoder_start_token_id"
    return key, "get_lang_id" if hasattr(tokenizer, "get_lang_id") else "convert_tokens_to_ids"


def language_notes(base: Base, pairs: Pairs) -> list[str]:
    """Return notes on which languages a user of the merged model must specify for each text."""
    if base.languages is None:
        return []
    shown = joined(
        ", ",
        (
            Message("{source} to {target}", source=source, target=target)
            for source, target in pairs[:SHOWN_PAIRS]
        ),
    )
    more = (
        Message(" and {num_pairs} more", num_pairs=len(pairs) - SHOWN_PAIRS)
        if len(pairs) > SHOWN_PAIRS
        else ""
    )
    notes: list[str] = []
    if only([source for source, _ in pairs]) is None:
        notes.append(
            Message(
                "set `tokenizer.src_lang` to the language of each text: the adapter was "
                "trained on {shown}{more}",
                shown=shown,
                more=more,
            )
        )
    if only([target for _, target in pairs]) is None:
        key, lookup = how_to_ask(base.languages, base.tokenizer)
        notes.append(
            Message(
                "answers are in several languages, so none is set in generation_config.json: pass "
                "`{key}=tokenizer.{lookup}(CODE)` to `generate` for each text",
                key=key,
                lookup=lookup,
            )
        )
    return notes
