"""Names of the metrics that can select a checkpoint; `loraloom/evaluate/metrics.py` computes them."""

from __future__ import annotations

from typing import Literal, get_args

ScoreName = Literal["chrf", "bleu", "rouge_l", "exact_match"]
SelectionMetric = Literal["eval_loss", ScoreName]
# Metrics of generated answers, for which higher is better.
SCORES: tuple[str, ...] = get_args(ScoreName)
