"""The check that answer metrics can be computed for the language of the references."""

from __future__ import annotations

from collections.abc import Collection

from loraloom.checks.finding import Finding
from loraloom.data.splitting.split import Split
from loraloom.evaluate.metrics import why_no_bleu
from loraloom.evaluate.word_tokenizers import words_of
from loraloom.text.message import Message


def check_metrics(split: Split, selecting: Collection[str]) -> list[Finding]:
    """Report if BLEU cannot be computed, before it is needed to compare answers or select a checkpoint.

    Args:
        split: all rows; answers are compared with the responses of its eval and test rows.
        selecting: metrics that select the checkpoint of an experiment.
    """
    references = [example.response for example in (*split.eval, *split.test)]
    reason = why_no_bleu(words_of(references)) if references else ""
    if not reason:
        return []
    message = Message("BLEU cannot be computed: {reason}", reason=reason)
    if "bleu" in selecting:
        fix = Message(
            "Set training.metric_for_best_model: chrf, or install the tokenizer for this language if there "
            "is one."
        )
        return [Finding("error", "metrics", "training.metric_for_best_model", message, fix)]
    return [
        Finding(
            "note", "metrics", "data", message, Message("Comparisons and reports contain the other metrics.")
        )
    ]
