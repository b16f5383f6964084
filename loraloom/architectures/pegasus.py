"""Pegasus: summarization models with sinusoidal positions; embeddings are scaled by √d_model."""

from __future__ import annotations

from typing import ClassVar

from loraloom.architectures.bart import Bart


class Pegasus(Bart):
    """Pegasus (Zhang et al., 2019, https://arxiv.org/abs/1912.08777), as implemented in transformers."""

    model_type: ClassVar[str] = "pegasus"
    title: ClassVar[str] = "Pegasus"
    start = "pad"
    # transformers' documentation of Pegasus: "FP16 is not supported".
    float16 = False
