"""The metrics that can be computed against some references, and how each is computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from loraloom.base.answer_text import AnswerText
from loraloom.evaluate.expressible_references import expressible
from loraloom.evaluate.metrics import METRICS, TRANSLATION_METRICS, Metric, why_no_bleu
from loraloom.evaluate.word_tokenizers import words_of

NO_METRICS: Mapping[str, Metric] = {}


@dataclass(frozen=True)
class Scoring:
    """References and the metrics to compute against them.

    Args:
        references: as the model can write them.
        metrics: metrics that can be computed; those that would be wrong are left out.
        signatures: how each metric is computed, or why it is not.
    """

    references: list[str]
    metrics: dict[str, Metric]
    signatures: dict[str, str]

    def figures(self, answers: Sequence[str]) -> dict[str, float]:
        """Compute every metric over all rows.

        Args:
            answers: one for each reference.
        """
        return {name: metric.compute(answers, self.references) for name, metric in self.metrics.items()}


def score_against(
    references: Sequence[str], answer_text: AnswerText, more: Mapping[str, Metric] = NO_METRICS
) -> Scoring:
    """Choose the metrics for some references.

    Args:
        references: responses of the rows, as in the data file.
        answer_text: converts tokens of the answering model to text; references become what it can write.
        more: metrics to compute in addition to the usual ones.
    """
    written = expressible(references, answer_text)
    known = {**METRICS, **({} if answer_text.languages is None else TRANSLATION_METRICS), **more}
    left_out = {"bleu"} if why_no_bleu(words_of(written.references)) else set()
    return Scoring(
        references=written.references,
        metrics={name: metric for name, metric in known.items() if name not in left_out},
        signatures={
            name: metric.signature(written.references) + ("" if name in left_out else written.signature)
            for name, metric in known.items()
        },
    )
