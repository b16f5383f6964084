"""The proof's side of transformers: `AutoModelForSeq2SeqLM` on an exported folder."""

from __future__ import annotations

from pathlib import Path

import torch
import transformers
from transformers import AutoModelForSeq2SeqLM

from loraloom.export.runtime import ProofRows, RuntimeOutputs
from loraloom.export.transformers_answers import outputs_of


def run(folder: Path, rows: ProofRows, base: str) -> RuntimeOutputs:
    """Load the folder as any user would, and answer."""
    model = AutoModelForSeq2SeqLM.from_pretrained(
        folder,
        dtype="auto",
        use_safetensors=True,
        attn_implementation=rows.attention,
        trust_remote_code=False,
    )
    # transformers 5 loads `True` for the whole T5 family, and UMT5 then scales its logits.
    head, embedding = model.get_output_embeddings(), model.get_decoder().get_input_embeddings()
    model.config.tie_word_embeddings = head.weight is embedding.weight
    dtype = str(next(model.parameters()).dtype).removeprefix("torch.")
    assert isinstance(model, torch.nn.Module)
    return outputs_of(model.eval(), rows, f"transformers {transformers.__version__}", dtype)
