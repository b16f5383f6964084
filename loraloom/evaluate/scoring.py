"""Which figures can be computed against some references, by which model, and how each is computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from loraloom.base.answer_text import AnswerText
from loraloom.evaluate.expressible_references import expressible
from loraloom.evaluate.metrics import METRICS, Metric, why_no_bleu
from loraloom.evaluate.word_tokenizers import words_of


@dataclass(frozen=True)
class Scoring:
    """What answers are held against.

    Args:
        references: as the model can write them.
        metrics: those that can be computed; a figure that would be wrong is not among them.
        signatures: how each is computed, and of one that is not, why.
    """

    references: list[str]
    metrics: dict[str, Metric]
    signatures: dict[str, str]

    def figures(self, answers: Sequence[str]) -> dict[str, float]:
        """Every figure over all rows.

        Args:
            answers: one for each reference.
        """
        return {name: metric.compute(answers, self.references) for name, metric in self.metrics.items()}


def score_against(references: Sequence[str], answer_text: AnswerText) -> Scoring:
    """Choose the figures for some references.

    Args:
        references: the rows' responses, as the data file has them.
        answer_text: of the model that answers: what it cannot write is not asked of it.
    """
    written = expressible(references, answer_text)
    left_out = {"bleu"} if why_no_bleu(words_of(written.references)) else set()
    return Scoring(
        references=written.references,
        metrics={name: metric for name, metric in METRICS.items() if name not in left_out},
        signatures={
            name: metric.signature(written.references) + ("" if name in left_out else written.signature)
            for name, metric in METRICS.items()
        },
    )
