"""The parts of a model card on a comparison, and on how far the adapter moved the base's weights."""

from __future__ import annotations

from loraloom.report.training_view import group_of
from loraloom.run.documents.comparison import BASE_NAME, Comparison, Difference, Movement
from loraloom.run.documents.words import shown_word
from loraloom.text.catalogue import filled, rendered
from loraloom.text.message import Message
from loraloom.text.units import figure
from loraloom.training.adapter_card import table


def comparison_lines(comparison: Comparison, name: str) -> list[str]:
    """Return the figures of an adapter next to those of its base, with intervals, as lines of Markdown.

    Raises:
        KeyError, ValueError: the comparison's document is inconsistent.
    """
    models = comparison.models
    groups: dict[str, list[str]] = {}
    for model in models:
        groups.setdefault(group_of(model), []).append(model)
    group = group_of(name)
    experiments = [each for each in groups if each != BASE_NAME]
    sentence = dict(zip(experiments, comparison.sentences, strict=True))[group]
    found = {each.metric: each for each in comparison.differences if each.model == group}
    own, base = models[name].figures, models[BASE_NAME].figures
    rows = [(key, figure(base[key]), figure(own[key]), *_interval(found.get(key))) for key in own]
    lines = [rendered(sentence), ""]
    if comparison.took_part_in_a_choice:
        lines += [filled("These rows selected the checkpoint, so the figures are optimistic."), ""]
    if len(groups[group]) > 1:
        lines += [
            filled(
                "The sentence and the differences cover {num_seeds} seeds of {experiment}; "
                "the adapter's column shows only this adapter.",
                num_seeds=len(groups[group]),
                experiment=group,
            ),
            "",
        ]
    lines += table(
        (
            filled("figure"),
            filled("base"),
            filled("adapter"),
            filled("difference, 95 % interval"),
            filled("verdict"),
        ),
        rows,
    )
    signatures = comparison.signatures.items()
    lines += ["", *(f"- {key}: {rendered(signature)}" for key, signature in signatures)] if signatures else []
    if (moved := models[name].movement) is not None:
        lines += ["", movement_line(moved)]
    num = Message.counting(
        "{count:,} {what} row", "{count:,} {what} rows", count=comparison.num_rows, what=comparison.what
    )
    return [*lines, "", filled("Computed on {rows}.", rows=num)]


def _interval(difference: Difference | None) -> tuple[str, str]:
    if difference is None:
        return "", ""
    with_interval = filled(
        "{difference:+.4f} ({low:+.4f} to {high:+.4f})",
        difference=difference.difference,
        low=difference.low,
        high=difference.high,
    )
    return with_interval, rendered(shown_word(difference.verdict))


def movement_line(moved: Movement) -> str:
    """State how far an adapter moved the weights of its base."""
    kinds = ", ".join(f"{kind} {value:.2g}" for kind, value in moved.kinds.items())
    return filled(
        "Movement, ‖ΔW‖ / ‖W‖: {total:.2g} over all adapted linears; {kinds}.",
        total=moved.total,
        kinds=kinds,
    )
