"""Sampling at temperatures close to 0."""

from __future__ import annotations

import pytest
import torch

from loraloom.evaluate.logits_processors import logits_processors
from loraloom.recipe import GenerationSettings


@pytest.mark.parametrize("temperature", [5e-324, 1e-300, 1e-40, 1e-30, 1e-6])
def test_the_most_likely_token_is_drawn(temperature: float) -> None:
    settings = GenerationSettings(do_sample=True, temperature=temperature, top_p=0.5)
    scores = torch.tensor([[-900.0, 800.0, 799.0, -torch.inf]])
    probabilities = logits_processors(settings)(torch.tensor([[0]]), scores).softmax(-1)
    assert probabilities.tolist() == [[0.0, 1.0, 0.0, 0.0]]
