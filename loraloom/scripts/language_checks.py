"""Checks of a script with a multilingual base: the language codes of sources, labels and answers."""

from __future__ import annotations

from collections.abc import Iterator

from loraloom.run.documents.checks import Finding
from loraloom.scripts.answer_checks import generations
from loraloom.scripts.facts import Facts
from loraloom.text.message import Message


def languages(facts: Facts) -> Iterator[Finding]:
    """Find sources, labels and answers whose language is not specified."""
    if facts.known is None or not facts.known.languages:
        return
    code = facts.known.languages
    if facts.targets and not _says(facts, "src_lang"):
        yield Finding(
            "warning",
            "languages",
            facts.script.where(facts.targets[0]),
            Message(
                "`src_lang` is never set, so every source is marked as the tokenizer's default language, "
                "which is English for most tokenizers"
            ),
            Message('Set `src_lang="{code}"` when the tokenizer is loaded.', code=code),
        )
    if facts.targets and not _says(facts, "tgt_lang"):
        yield Finding(
            "error",
            "languages",
            facts.script.where(facts.targets[0]),
            Message(
                "`tgt_lang` is never set: labels begin with the code of the source's language, and so "
                "will answers"
            ),
            Message('Set `tgt_lang="{code}"` when the tokenizer is loaded.', code=code),
        )
    # mBART's first models take the language from the decoder's start, as transformers' documentation shows.
    starts = facts.known.title == "mBART" and _says(facts, "decoder_start_token_id")
    if (
        not starts
        and not _says(facts, "forced_bos_token_id")
        and (generations(facts) or facts.is_on("predict_with_generate"))
    ):
        calls = generations(facts)
        yield Finding(
            "error",
            "languages",
            facts.script.where(calls[0] if calls else facts.arguments),
            Message(
                "`forced_bos_token_id` is never set, so the model chooses the language of its answers, "
                "often the wrong one"
            ),
            Message(
                "Set `model.generation_config.forced_bos_token_id = "
                'tokenizer.convert_tokens_to_ids("{code}")`.',
                code=code,
            ),
        )


def _says(facts: Facts, name: str) -> bool:
    return next(facts.given(name), None) is not None
