"""Greedy answers and log-probabilities of a transformers model, by its own `forward` and `generate`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from loraloom.export.fresh_process import generated_answers, greedy_answers, teacher_forced
from loraloom.export.runtime import (
    ProofRows,
    RuntimeOutputs,
    answered_together,
    decoded_by,
    parts_of,
    target_to_end,
)


def outputs_of(model: Any, rows: ProofRows, runtime: str, computed_in: str) -> RuntimeOutputs:
    """Run a loaded model, in eval mode, on the rows."""
    answers = [each for part in answered_together(rows) for each in greedy_answers(model, part)]
    log_probabilities = [
        each for part in parts_of(rows) for each in of_targets(teacher_forced(model, part), part)
    ]
    decoded = decoded_by(rows, lambda part: generated_answers(model, part, rows.decoding))
    return RuntimeOutputs(answers, runtime, computed_in, log_probabilities, decoded=decoded)


def of_targets(logits: Tensor, rows: ProofRows) -> list[list[float]]:
    """Return the log-probability of each token of each target, up to EOS.

    Args:
        logits: float32 [tokens of all targets, vocabulary].
        rows: rows with the targets.
    """
    tokens = torch.tensor([token for target in rows.targets for token in target])
    chosen = logits.gather(1, tokens[:, None])[:, 0] - logits.logsumexp(1)
    each = chosen.split([len(target) for target in rows.targets])
    return [
        own[: len(target_to_end(target, rows.eos_token_id))].tolist()
        for own, target in zip(each, rows.targets, strict=True)
    ]
