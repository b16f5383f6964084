"""PEFT's part of the proof: the base in transformers, with the adapter loaded by `PeftModel`."""

from __future__ import annotations

from pathlib import Path

import peft
from peft import PeftModel
from transformers import AutoModelForSeq2SeqLM, GenerationConfig

from loraloom.export.runtime import ProofRows, RuntimeOutputs, name_and_version
from loraloom.export.transformers_answers import outputs_of


def run(folder: Path, rows: ProofRows, base: str) -> RuntimeOutputs:
    """Load base and adapter as any user would, and compute answers and log-probabilities."""
    model = AutoModelForSeq2SeqLM.from_pretrained(
        base,
        dtype="float32",
        attn_implementation=rows.attention,
        trust_remote_code=False,
        weights_only=True,
    )
    head, embedding = model.get_output_embeddings(), model.get_decoder().get_input_embeddings()
    model.config.tie_word_embeddings = head.weight is embedding.weight
    # transformers fills a call's missing generation settings from the base's own, which the run did not use.
    model.generation_config = GenerationConfig()
    adapted = PeftModel.from_pretrained(model, folder).eval()
    return outputs_of(adapted, rows, name_and_version(peft), "float32")
