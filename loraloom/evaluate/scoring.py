"""The choice of metrics that can be computed for given references, and how each is computed."""

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
        references: the references in the form in which the model can write them; see `expressible`.
        metrics: metrics that can be computed; metrics that would give wrong values are left out.
        signatures: for each metric, how it is computed, or why it is not computed.
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
    """Choose the metrics that can be computed for these references.

    Args:
        references: responses of the rows, as in the data file.
        answer_text: converts the answering model's tokens to text; the references are converted to the
            form in which that model can write them.
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
