"""The model checks, grouped into tuples by when they run."""

from __future__ import annotations

from collections.abc import Callable

from loraloom.checks.adapters import check_adapters, check_targets
from loraloom.checks.base_model import check_head, check_precision, check_special_tokens, check_tokenizer
from loraloom.checks.cuda_graphs import check_cuda_graphs
from loraloom.checks.finding import Finding
from loraloom.checks.gate import Gate, check_generation, check_labels, check_loss, check_shapes
from loraloom.checks.language_balance import check_languages
from loraloom.checks.movement_forecast import check_movement
from loraloom.checks.overfitting import check_learning
from loraloom.checks.quantized_base import check_quantization

ModelCheck = Callable[[Gate], list[Finding]]

# Properties of the base.
MODEL: tuple[ModelCheck, ...] = (check_head, check_precision, check_tokenizer, check_special_tokens)
# Real rows in the base.
GATE: tuple[ModelCheck, ...] = (
    check_shapes,
    check_labels,
    check_loss,
    check_quantization,
    check_languages,
    check_targets,
    check_adapters,
    check_cuda_graphs,
    check_generation,
)
# `check`, `train` and `search` run these, so together they must take no more than about a second.
BEFORE_TRAINING: tuple[ModelCheck, ...] = (*MODEL, *GATE, check_movement)
# `check --deep` also runs these, which train for about a minute.
DEEP: tuple[ModelCheck, ...] = (check_learning,)
