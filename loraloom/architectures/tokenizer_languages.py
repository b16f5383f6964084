"""The language codes in the tokenizer of a multilingual family."""

from __future__ import annotations

import re
from typing import Any

from loraloom.data.languages.codes import Languages
from loraloom.errors import ModelError
from loraloom.text.message import Message

# `deu_Latn` of NLLB, `de_DE` and `en_XX` of mBART; only tokens that a tokenizer keeps separate from text.
_CODE = re.compile(r"[a-z]{3}_[A-Z][a-z]{3}|[a-z]{2}_[A-Z]{2}")
_M2M100_CODE = re.compile(r"__([a-z]{2,3})__")
# Tokenizers that have codes; others of the same families (BARThez, BARTpho) have one language.
_MULTILINGUAL = re.compile(r"(Nllb|M2M100|MBart|MBart50)Tokenizer(Fast)?")


def find_languages(tokenizer: Any, name: str, *, begins_target: bool | None = None) -> Languages | None:
    """Return the languages of a tokenizer; None if it has one language and no codes.

    Args:
        tokenizer: a transformers tokenizer.
        name: name of the model in messages.
        begins_target: whether targets begin with their code; None if they do whenever sources do.

    Raises:
        ModelError: the tokenizer has no codes, but its class is multilingual or `begins_target` is given.
    """
    codes = _codes(tokenizer)
    # The tokens that it puts around a text show the code's position, even in NLLB's legacy form.
    frame = list(tokenizer("")["input_ids"])
    own = [token for token in frame if token in codes.values()]
    if codes and own:
        begins_source = frame[0] in own
        return Languages(codes, begins_source, begins_source if begins_target is None else begins_target)
    if _MULTILINGUAL.fullmatch(type(tokenizer).__name__) or begins_target is not None:
        raise ModelError(
            Message("its tokenizer has no language codes, so every language would be <unk>"),
            where=name,
            found=Message(
                "{name} with {num_codes} codes", name=type(tokenizer).__name__, num_codes=len(codes)
            ),
            fix=Message(
                "A folder with only the sentencepiece model has no language codes: copy tokenizer.json and "
                "tokenizer_config.json from the original model too."
            ),
        )
    return None


def _codes(tokenizer: Any) -> dict[str, int]:
    """Return each language's code and the id of its token, in the tokenizer's order."""
    if hasattr(tokenizer, "lang_token_to_id"):  # M2M100: its tokens are `__de__`, its codes `de`
        return {token.strip("_"): int(id) for token, id in tokenizer.lang_token_to_id.items()}
    special = {**tokenizer.get_added_vocab()}
    for token in tokenizer.all_special_tokens:
        special.setdefault(token, tokenizer.convert_tokens_to_ids(token))
    found: dict[str, int] = {}
    for token, id in sorted(special.items(), key=lambda pair: int(pair[1])):
        if id == tokenizer.unk_token_id:
            continue
        if _CODE.fullmatch(token):
            found[token] = int(id)
        elif plain := _M2M100_CODE.fullmatch(token):
            found[plain[1]] = int(id)
    return found
