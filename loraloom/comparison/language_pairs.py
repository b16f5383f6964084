"""A comparison by language pair: figures over the rows of each pair, and forgetting on retained rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields

from loraloom.comparison.partial_answers import Answers
from loraloom.data.encoding import EncodedSet
from loraloom.data.files.part_files import PartContents
from loraloom.data.languages.codes import rows_of_pairs
from loraloom.data.prompts.prompts import Prompt
from loraloom.evaluate import comparison
from loraloom.evaluate.comparison import ModelAnswers
from loraloom.evaluate.metrics import Metric
from loraloom.evaluate.scoring import score_against
from loraloom.run.documents.comparison import BASE_NAME, LanguagePair
from loraloom.session.answering_model import AnsweringModel
from loraloom.session.encoded_rows import encode_rows

# The figures whose difference from the base is stated for each pair.
STATED = ("chrf_plus_plus", "spbleu", "bleu", "chrf", "eval_loss")


def only_rows(own: ModelAnswers, numbers: Sequence[int]) -> ModelAnswers:
    """Select a model's answers to the rows with the given indices."""
    return ModelAnswers(
        **{part.name: [getattr(own, part.name)[n] for n in numbers] for part in fields(ModelAnswers)}
    )


def pairs_compared(
    loaded: AnsweringModel,
    rows: Sequence[Prompt],
    answers: Answers,
    num_labels: Sequence[int],
    groups: Mapping[str, Sequence[str]],
    more: Mapping[str, Metric],
) -> dict[str, LanguagePair]:
    """Compute the figures of each language pair; an empty dict if the base is not multilingual.

    Args:
        loaded: the models that answered.
        rows: the rows with a known answer.
        answers: the answers of every model to these rows.
        num_labels: number of label tokens of each row.
        groups: experiment → its adapters, one per seed; the first entry is the base.
        more: metrics to compute in addition to the usual ones for multilingual bases.
    """
    if loaded.base.languages is None:
        return {}
    found = {}
    for name, numbers in rows_of_pairs(rows).items():
        own = {model: only_rows(each, numbers) for model, each in answers.items()}
        scoring = score_against([rows[n].response or "" for n in numbers], loaded.base.answer_text, more)
        labels = [num_labels[n] for n in numbers]
        limit = loaded.recipe.generation.max_new_tokens
        evidence = comparison.compute_evidence(own, groups, scoring, labels)
        found[name] = LanguagePair(
            source_lang=rows[numbers[0]].source_lang,
            target_lang=rows[numbers[0]].target_lang,
            num_rows=len(numbers),
            figures={
                model: comparison.figures(each, own[BASE_NAME], scoring, labels, limit)
                for model, each in own.items()
            },
            differences=[each for each in evidence.differences if each.metric in STATED],
        )
    return found


def retain_losses(
    loaded: AnsweringModel, retained: PartContents | None
) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """Compute every model's loss on `data.retain` in one pass.

    The increase of an adapter's loss over the base's is its forgetting.

    Returns:
        model → loss over all rows; and for a multilingual base, pair → model → loss over its rows. Both
        are empty if no rows are retained.
    """
    if retained is None:
        return {}, {}
    size = loaded.recipe.training.per_device_eval_batch_size
    rows = encode_rows(retained.examples, loaded.base, loaded.recipe)
    losses = loaded.passes.losses(list(loaded.slots.values()), rows, batch_size=size)
    every = list(range(len(rows)))
    pairs = rows_of_pairs(retained.examples) if loaded.base.languages is not None else {}

    def over(numbers: Sequence[int]) -> dict[str, float]:
        labels = _num_labels(rows, numbers)
        sums = losses[:, numbers].sum(1)
        return {model: float(total / labels) for model, total in zip(loaded.slots, sums, strict=True)}

    return over(every), {name: over(numbers) for name, numbers in pairs.items()}


def _num_labels(rows: EncodedSet, numbers: Sequence[int]) -> int:
    return int(rows.target_lengths[list(numbers)].sum())


def with_forgetting(
    pairs: Mapping[str, LanguagePair],
    retained: Mapping[str, Mapping[str, float]],
    examples: PartContents | None,
) -> dict[str, LanguagePair]:
    """Add losses on `data.retain` to language pairs; pairs found only there are added without figures."""
    found = dict(pairs)
    for name, losses in retained.items():
        assert examples is not None
        first = examples.examples[rows_of_pairs(examples.examples)[name][0]]
        found.setdefault(
            name,
            LanguagePair(
                source_lang=first.source_lang,
                target_lang=first.target_lang,
                num_rows=0,
                figures={},
                differences=[],
            ),
        )
        found[name] = found[name].model_copy(update={"retain_losses": dict(losses)})
    return found
