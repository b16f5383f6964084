"""Python code for the README of an exported CTranslate2 folder: it loads the folder and prints an answer."""

from __future__ import annotations

import json

from loraloom.export.format import ExportSource
from loraloom.export.merged_languages import only
from loraloom.export.recipe_decoding import SAMPLING, beyond_greedy
from loraloom.recipe import GenerationSettings
from loraloom.text.catalogue import filled
from loraloom.training.card_code import question_text


def translating_code(source: ExportSource, tokenizer_folder: str) -> str:
    """Return Python code for CTranslate2's `Translator`, which takes tokens and adds no special tokens."""
    base, facts = source.base, source.facts
    ids = "tokenizer(text).input_ids"
    if not base.family.ends_sources:
        ids += " + [tokenizer.eos_token_id]"
    prefix = _prefix(source)
    settings = facts.recipe.generation
    options = [
        *(f"{name}={value:g}" for name, value in _decoding(settings).items()),
        "min_decoding_length=0",
        "max_input_length=0",
        f"max_decoding_length={settings.max_new_tokens}",
        *([f"target_prefix=[{json.dumps(prefix, ensure_ascii=False)}]"] if prefix else []),
    ]
    is_returned = base.languages is not None and base.languages.begins_target
    skipped = f"[{len(prefix)}:]" if prefix and is_returned else ""
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


def _decoding(settings: GenerationSettings) -> dict[str, float]:
    """Return the recipe's decoding settings under CTranslate2's names, without those that have no effect."""
    given = {name: value for name, value in beyond_greedy(settings).items() if name not in SAMPLING}
    found = {"beam_size": given.pop("num_beams", 1), **given}
    if settings.do_sample:
        found["sampling_topk"] = settings.top_k or 0  # 0: of all tokens
        found["sampling_topp"] = settings.top_p or 1
        found["sampling_temperature"] = settings.temperature or 1
    return found


def _prefix(source: ExportSource) -> list[str]:
    """Return the tokens that every answer must begin with: the code of the only target language, or []."""
    base = source.base
    code = only([target for _, target in source.facts.languages])
    return [] if base.languages is None or code is None else [code]
