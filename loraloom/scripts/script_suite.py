"""All checks of a script, in display order; each check is a function of the script's facts."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from loraloom.run.documents.checks import Finding
from loraloom.scripts import (
    adapter_checks,
    answer_checks,
    base_checks,
    label_checks,
    language_checks,
    metric_checks,
    optimizer_checks,
    removed_names,
    row_checks,
    trainer_checks,
)
from loraloom.scripts.facts import Facts
from loraloom.text.message import Message

Check = Callable[[Facts], Iterator[Finding]]
SUITE: tuple[Check, ...] = (
    removed_names.removed_names,
    row_checks.splits,
    row_checks.columns,
    label_checks.padding_in_labels,
    label_checks.end_of_labels,
    label_checks.labels_from_sources,
    label_checks.collators,
    label_checks.padding_token,
    row_checks.padding_of_sources,
    row_checks.truncation,
    language_checks.languages,
    base_checks.model_class,
    base_checks.precision,
    base_checks.quantization,
    adapter_checks.targets,
    adapter_checks.task_type,
    adapter_checks.frozen_adapters,
    adapter_checks.adapter_in_use,
    adapter_checks.new_tokens,
    adapter_checks.learning_rate,
    optimizer_checks.loraplus_decay,
    optimizer_checks.ignored_arguments,
    optimizer_checks.scaled_steps,
    trainer_checks.strategies,
    metric_checks.selection,
    metric_checks.generated_metrics,
    trainer_checks.loss_figures,
    trainer_checks.embedding_noise,
    trainer_checks.resuming,
    answer_checks.base_answers,
    answer_checks.dropout_in_answers,
    answer_checks.ignored_sampling,
    answer_checks.answer_length,
    answer_checks.special_tokens,
    answer_checks.beams,
    answer_checks.penalized_end,
    answer_checks.few_prompts,
    answer_checks.merging,
)


def check_facts(facts: Facts) -> list[Finding]:
    """Run all checks; identical findings at the same location are reported once."""
    unread = [
        Finding(
            "warning",
            "syntax",
            place,
            Message("this cell is not read, because it is not Python: {reason}", reason=reason),
        )
        for place, reason in facts.script.source.unread
    ]
    return list(dict.fromkeys([*unread, *(finding for check in SUITE for finding in check(facts))]))
