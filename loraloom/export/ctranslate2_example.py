"""Python that answers with an exported CTranslate2 folder, for its README."""

from __future__ import annotations

import json

from loraloom.export.format import ExportSource
from loraloom.export.merged_languages import only
from loraloom.text.catalogue import filled
from loraloom.training.card_code import question_text


def translating_code(source: ExportSource, tokenizer_folder: str) -> str:
    """Write Python with CTranslate2's Translator, which takes tokens and adds none."""
    base, facts = source.base, source.facts
    ids = "tokenizer(text).input_ids"
    if not base.family.ends_sources:
        ids += " + [tokenizer.eos_token_id]"
    prefix = _prefix(source)
    limit = facts.recipe.generation.max_new_tokens
    options = [
        "beam_size=1",
        "min_decoding_length=0",
        "max_input_length=0",
        f"max_decoding_length={limit}",
        *([f"target_prefix=[{json.dumps(prefix, ensure_ascii=False)}]"] if prefix else []),
    ]
    skipped = f"[{len(prefix)}:]" if prefix else ""
    return (
        "import ctranslate2\n"
        "from transformers import AutoTokenizer\n\n"
        f'folder = "."  # {filled("this folder")}\n'
        "translator = ctranslate2.Translator(folder)\n"
        f'tokenizer = AutoTokenizer.from_pretrained(folder + "/{tokenizer_folder}")\n'
        f"text = {json.dumps(question_text(facts), ensure_ascii=False)}\n"
        f"tokens = tokenizer.convert_ids_to_tokens({ids})\n"
        f"(answer,) = translator.translate_batch([tokens], {', '.join(options)})\n"
        f"ids = tokenizer.convert_tokens_to_ids(answer.hypotheses[0]{skipped})\n"
        "print(tokenizer.decode(ids, skip_special_tokens=True))\n"
    )


def _prefix(source: ExportSource) -> list[str]:
    """The tokens that an answer must begin with, if all answers have one language."""
    base = source.base
    code = only([target for _, target in source.facts.languages])
    return [] if base.languages is None or code is None else [code]
