"""The transformers logits processors for the recipe's `generation` settings."""

from __future__ import annotations

from typing import Any

from transformers.generation import (
    LogitsProcessorList,
    NoRepeatNGramLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from loraloom.recipe import GenerationSettings

# At lower temperatures, logits overflow in float32, and their softmax is not finite. At this one, the most
# likely token is already drawn.
LEAST_TEMPERATURE = 1e-30


def logits_processors(settings: GenerationSettings) -> Any:
    """Create the logits processors in the order in which transformers' `generate` applies them."""
    processors = LogitsProcessorList()
    if settings.repetition_penalty != 1.0:
        processors.append(RepetitionPenaltyLogitsProcessor(float(settings.repetition_penalty)))
    if settings.no_repeat_ngram_size:
        processors.append(NoRepeatNGramLogitsProcessor(settings.no_repeat_ngram_size))
    if settings.do_sample:
        if settings.temperature not in (None, 1.0):
            processors.append(TemperatureLogitsWarper(max(float(settings.temperature), LEAST_TEMPERATURE)))
        if settings.top_k is not None:
            processors.append(TopKLogitsWarper(settings.top_k))
        if settings.top_p is not None and settings.top_p < 1:
            processors.append(TopPLogitsWarper(float(settings.top_p)))
    return processors
