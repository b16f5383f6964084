"""The recipe's decoding in an export: the settings that a runtime supports, and answers to compare it with.

The proof compares greedy answers, because those must be equal except for ties. A run's metrics are measured
with the recipe's `generation` settings, so users of an export should know how to get these answers from a
runtime, and how closely it reproduces them.
"""

from __future__ import annotations

from collections.abc import Mapping, Set

from loraloom.bank.bank import AdapterBank
from loraloom.data.languages.codes import DecoderStart
from loraloom.evaluate.generation import answer
from loraloom.export.runtime import ProofRows, answered_at_once
from loraloom.recipe import GenerationSettings

BEAMS = ("num_beams", "length_penalty")
SAMPLING = ("do_sample", "temperature", "top_k", "top_p")
EVERY = frozenset({*BEAMS, *SAMPLING, "repetition_penalty", "no_repeat_ngram_size"})


def beyond_greedy(settings: GenerationSettings) -> dict[str, float]:
    """Return the settings that make decoding differ from greedy, without those that have no effect."""
    names = [*(BEAMS if settings.num_beams > 1 else ()), "repetition_penalty", "no_repeat_ngram_size"]
    names += SAMPLING if settings.do_sample else []
    usual = GenerationSettings()
    given = {name: getattr(settings, name) for name in names}
    return {name: value for name, value in given.items() if value not in (None, getattr(usual, name))}


def shown_settings(settings: Mapping[str, float]) -> str:
    """Format settings, such as `num_beams 4, no_repeat_ngram_size 6`."""
    return ", ".join(name if value is True else f"{name} {value:g}" for name, value in settings.items())


def comparable(settings: GenerationSettings, known: Set[str]) -> dict[str, float]:
    """Return the non-greedy settings; {} if they include sampling, or one that the runtime lacks."""
    found = beyond_greedy(settings)
    return found if known >= found.keys() and not settings.do_sample else {}


def reference_decoded(
    bank: AdapterBank, slot: str, rows: ProofRows, settings: GenerationSettings
) -> list[list[int]]:
    """Generate base + adapter's float32 answers with the recipe's decoding, without the start token and EOS.

    Args:
        bank: the bank, with the adapter attached.
        slot: name of the adapter's slot.
        rows: input for the model; the targets are not read. If `rows.decoding` is empty, so is the result.
        settings: generation settings of the recipe.
    """
    if not rows.decoding:
        return []
    at_once = answered_at_once(rows, settings.num_beams)
    limits = {"max_new_tokens": rows.max_new_tokens, "batch_size": at_once}
    starts = [DecoderStart(*each) for each in zip(rows.start_token_ids, rows.forced_token_ids, strict=True)]
    return answer(bank, [slot], rows.sources, settings.model_copy(update=limits), starts=starts)[slot]
