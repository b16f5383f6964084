"""What a pass reads: a batch and whose rows it has, and for a static pass both as they go to the device."""

from __future__ import annotations

from collections.abc import Sequence

from loraloom.bank.ownership import Excerpt, Rows, training_rows
from loraloom.data.batches import Batch, Part, collate
from loraloom.data.encoding import EncodedSet
from loraloom.training.pass_plan import Pass, num_labels_of, plan_passes
from loraloom.training.setup import Setup, Trainee
from loraloom.training.static_passes import StagedPass, StaticPasses, rounded_width


def stage(
    setup: Setup,
    static: StaticPasses,
    trainees: Sequence[Trainee],
    each: Pass,
    num_labels: Sequence[int],
    steps_ahead: int = 0,
) -> StagedPass:
    """What a static pass reads."""
    batch = batch_of(setup, trainees, each, is_static=True)
    rows = ownership_of(batch, trainees, each, setup.train_set, steps_ahead)
    per_label = [1 / num_labels[piece.trainee] for piece in each.pieces]
    return static.stage(signature_of(trainees, each, num_labels, steps_ahead), batch, rows, per_label)


def stage_next(setup: Setup, static: StaticPasses, trainees: Sequence[Trainee], limit: int | None) -> None:
    """While a GPU computes the last pass of a step, stage the first one of the next.

    If it comes otherwise, because somebody's step fails or is the last, what was staged is not taken.
    """
    is_last = any(t.progress.step + 1 >= t.timetable.total_steps for t in trainees)
    if is_last or any(t.experiment.training.label_smoothing_factor for t in trainees):
        return
    plans = [t.timetable.micro_batches(t.progress.step + 1) for t in trainees]
    first = next(iter(plan_passes(plans, setup.train_set, setup.pass_tokens, limit)))
    num_labels = num_labels_of(plans, setup.train_set)
    static.stage_ahead(lambda: stage(setup, static, trainees, first, num_labels, steps_ahead=1))


def signature_of(
    trainees: Sequence[Trainee], each: Pass, num_labels: Sequence[int], steps_ahead: int = 0
) -> object:
    """All that decides a pass."""
    pieces = [
        (trainees[p.trainee].name, trainees[p.trainee].progress.step + steps_ahead, num_labels[p.trainee], p)
        for p in each.pieces
    ]
    return each.micro_batch, pieces


def batch_of(setup: Setup, trainees: Sequence[Trainee], each: Pass, is_static: bool) -> Batch:
    """On the processor; for a static pass one example a row, and rows of few different widths."""
    base, examples = setup.bank.base, setup.train_set
    parts = [
        Part(trainees[piece.trainee].name, [examples[row] for row in piece.rows]) for piece in each.pieces
    ]
    examples_of_all = [example for part in parts for example in part.examples]
    widths = (
        rounded_width(max(len(example.input_ids) for example in examples_of_all)),
        rounded_width(max(len(example.labels) for example in examples_of_all)),
    )
    return collate(
        parts,
        base.layout,
        packing=setup.shared.packing and not is_static,
        min_width=widths if is_static else (0, 0),
    )


def ownership_of(
    batch: Batch, trainees: Sequence[Trainee], each: Pass, examples: EncodedSet, steps_ahead: int = 0
) -> Rows:
    """Whose rows the pass has; of a micro-batch that was cut, also what lies outside of it."""
    excerpts = {
        trainees[piece.trainee].name: Excerpt(
            piece.first,
            {
                "source": examples.source_lengths[piece.micro_batch].tolist(),
                "target": examples.target_lengths[piece.micro_batch].tolist(),
            },
        )
        for piece in each.pieces
        if len(piece.rows) < len(piece.micro_batch)
    }
    return training_rows(
        batch,
        seeds={t.name: t.experiment.seed for t in trainees},
        steps={t.name: t.progress.step + steps_ahead for t in trainees},
        micro_batch=each.micro_batch,
        excerpts=excerpts,
    )
