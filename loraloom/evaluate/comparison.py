"""From answers to evidence: every model's figures, every difference from the base, a verdict in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from loraloom.evaluate.metrics import DESCRIPTIONS, METRICS, Numbers, share_changed
from loraloom.evaluate.movement import Movement
from loraloom.evaluate.statistics import Difference, compare_figures

BASE_NAME = "base"
# Below this an adapter's ΔW is lost among W's own digits (float32 has seven).
UNMOVED = 1e-6


@dataclass(frozen=True)
class ModelAnswers:
    """What one model said to every row.

    Args:
        texts: its answers.
        num_tokens: of each answer, EOS not counted.
        losses: summed loss of each row's reference; empty where there are no references.
    """

    texts: list[str] = field(default_factory=list)
    num_tokens: list[int] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)


def figures(
    answers: ModelAnswers,
    base: ModelAnswers,
    references: Sequence[str] | None,
    num_labels: Sequence[int],
    max_new_tokens: int,
) -> dict[str, float]:
    """The figures of one model over all rows.

    Args:
        answers, base: its and the base's.
        references: the rows' responses, where all have one.
        num_labels: label tokens of each row's reference.
        max_new_tokens: the limit at which an answer is cut.
    """
    found: dict[str, float] = {}
    if references is not None:
        found["eval_loss"] = sum(answers.losses) / sum(num_labels)
        found |= {name: metric.compute(answers.texts, references) for name, metric in METRICS.items()}
    found["share_changed"] = share_changed(answers.texts, base.texts)
    found |= {name: describe(answers.texts) for name, describe in DESCRIPTIONS.items()}
    found["share_cut"] = sum(n >= max_new_tokens for n in answers.num_tokens) / len(answers.num_tokens)
    return found


def differences(
    models: Mapping[str, ModelAnswers], references: Sequence[str], num_labels: Sequence[int]
) -> list[Difference]:
    """Each adapter against the base in every figure that has an interval."""
    base = models[BASE_NAME]
    found = []
    for name, answers in models.items():
        if name == BASE_NAME:
            continue
        unchanged = answers.texts == base.texts
        loss = compare_figures(
            _loss_statistics(answers, num_labels),
            _loss_statistics(base, num_labels),
            lambda sums: sums[..., 0] / sums[..., 1],
            names=(name, BASE_NAME),
            metric="eval_loss",
            higher_is_better=False,
        )
        found.append(loss)
        for key, metric in METRICS.items():
            found.append(
                compare_figures(
                    metric.statistics(answers.texts, references),
                    metric.statistics(base.texts, references),
                    metric.figure,
                    names=(name, BASE_NAME),
                    metric=key,
                    higher_is_better=metric.higher_is_better,
                    nothing_changed=unchanged,
                )
            )
    return found


def _loss_statistics(answers: ModelAnswers, num_labels: Sequence[int]) -> Numbers:
    return np.column_stack([np.array(answers.losses), np.array(num_labels, dtype=np.float64)])


def sentence(
    name: str,
    own: Mapping[str, float],
    base: Mapping[str, float],
    moved: Movement,
    found: Sequence[Difference],
    where: str,
) -> str:
    """What one adapter does, in one sentence; that it did nothing is said first.

    Args:
        name: of the adapter.
        own, base: its and the base's figures.
        moved: how far it moved the base.
        found: its differences.
        where: on which rows, `150 test rows`.
    """
    if own["share_changed"] == 0:
        how = "its ΔW is lost among W's digits" if moved.total < UNMOVED else f"ΔW is {moved.total:.2g} of W"
        return f"{name} did nothing: not one answer differs from the base's on {where} ({how})."
    changed = f"{own['share_changed']:.0%} of its answers differ from the base's"
    chrf = next((d for d in found if d.model == name and d.metric == "chrf"), None)
    if chrf is None:
        return f"{name}: {changed} on {where}; without references nothing says which are better."
    interval = f"{chrf.difference:+.1f}, 95 % interval {chrf.low:+.1f} to {chrf.high:+.1f}"
    scores = f"chrF {own['chrf']:.1f} against {base['chrf']:.1f} ({interval})"
    verdict = {
        "better": "answers better than the base",
        "worse": "answers worse than the base",
        "no significant difference": "shows no significant difference from the base",
        "nothing changed": "changed nothing",
    }[chrf.verdict]
    return f"{name} {verdict}: {scores} on {where}; {changed}."


def ranking(models: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The adapters, best first: by chrF where there are references, otherwise as listed."""
    names = [name for name in models if name != BASE_NAME]
    return sorted(names, key=lambda name: -models[name]["figures"].get("chrf", 0.0))
