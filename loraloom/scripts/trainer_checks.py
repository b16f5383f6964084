"""Checks of a script's trainer: when it evaluates, the figures it logs, and what it resumes."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from loraloom.run.documents.checks import Finding
from loraloom.scripts.facts import Facts
from loraloom.scripts.script_values import Call
from loraloom.text.message import Message
from loraloom.text.visible import quoted


def strategies(facts: Facts) -> Iterator[Finding]:
    """Find evaluation and save strategies that the Trainer rejects, or with which it never evaluates."""
    if facts.arguments is None:
        return
    evaluates = str(facts.setting("eval_strategy", facts.setting("evaluation_strategy", Message("no"))))
    saves = str(facts.setting("save_strategy", Message("steps")))
    if facts.is_on("load_best_model_at_end") and saves != "best":
        yield from _best_checkpoint(facts, evaluates, saves)
    if facts.trainer is None:
        return
    has_rows = facts.trainer.argument("eval_dataset", 4) is not None
    if evaluates in ("steps", "epoch") and not has_rows and facts.trainer.is_complete:
        yield Finding(
            "error",
            "evaluation",
            facts.script.where(facts.trainer),
            Message(
                "`eval_strategy` is {strategy}, but there is no `eval_dataset`: ValueError",
                strategy=quoted(evaluates),
            ),
            Message("Give the trainer held-out rows."),
        )
    if evaluates == "no" and has_rows and facts.arguments.is_complete:
        yield Finding(
            "warning",
            "evaluation",
            facts.script.where(facts.arguments),
            Message(
                "`eval_strategy` is `no` by default: the rows of `eval_dataset` are not evaluated while "
                "training, and no eval_loss is logged"
            ),
            Message('Set `eval_strategy="epoch"`.'),
        )
    yield from _callbacks(facts)


def _best_checkpoint(facts: Facts, evaluates: str, saves: str) -> Iterator[Finding]:
    where = facts.script.where(facts.arguments and facts.arguments.argument("load_best_model_at_end"))
    known = ("no", "steps", "epoch")
    if evaluates in known and saves in known and evaluates != saves:
        yield Finding(
            "error",
            "evaluation",
            where,
            Message(
                "`load_best_model_at_end` needs the same `save_strategy` and `eval_strategy`: ValueError "
                "(found: {saves} and {evaluates})",
                saves=quoted(saves),
                evaluates=quoted(evaluates),
            ),
            Message("Set both to `epoch`."),
        )
    log_steps = facts.setting("logging_steps", 500)
    steps = facts.setting("save_steps", 500), facts.setting("eval_steps", log_steps)
    are_read = all(isinstance(each, int) and each > 0 for each in steps)
    if evaluates == saves == "steps" and are_read and steps[0] % steps[1]:
        yield Finding(
            "error",
            "evaluation",
            where,
            Message(
                "`load_best_model_at_end` needs a `save_steps` that is a multiple of `eval_steps`: "
                "ValueError (found: {saves} and {evaluates})",
                saves=steps[0],
                evaluates=steps[1],
            ),
            Message("Set both to the same number."),
        )


def _callbacks(facts: Facts) -> Iterator[Finding]:
    for call in facts.script.calls_of("EarlyStoppingCallback"):
        if not facts.is_on("load_best_model_at_end") and facts.setting("metric_for_best_model") is None:
            yield Finding(
                "error",
                "evaluation",
                facts.script.where(call),
                Message("EarlyStoppingCallback needs `metric_for_best_model`: AssertionError"),
                Message("Set `load_best_model_at_end=True`."),
            )


def loss_figures(facts: Facts) -> Iterator[Finding]:
    """Find settings that distort the logged loss, and a warmup that the schedule ignores."""
    accumulation = facts.setting("gradient_accumulation_steps")
    smoothing = facts.setting("label_smoothing_factor")
    smooths = isinstance(smoothing, int | float) and smoothing > 0
    adds_up = facts.known is not None and not facts.known.divides_by_tokens and not facts.is_of_old_version
    adds_up = adds_up and not smooths and not _divides_itself(facts)
    if adds_up and isinstance(accumulation, int) and accumulation > 1:
        yield Finding(
            "warning",
            "loss",
            facts.script.where(facts.arguments and facts.arguments.argument("gradient_accumulation_steps")),
            Message(
                "transformers 5 adds up the losses of {model}'s micro-batches instead of averaging them: the "
                "logged loss and the gradients are {times} times as large, and `max_grad_norm` clips sooner",
                model=facts.known.title if facts.known else "",
                times=accumulation,
            ),
            Message(
                "Set `model.accepts_loss_kwargs = False` on the base, before `get_peft_model`; it has no "
                "effect on the model that `get_peft_model` returns."
            ),
        )
    if smooths and facts.trainer is not None:
        yield Finding(
            "note",
            "loss",
            facts.script.where(facts.arguments and facts.arguments.argument("label_smoothing_factor")),
            Message(
                "the Trainer smooths labels in evaluations too: eval_loss is not the cross-entropy, and "
                "cannot be compared with that of a run without smoothing"
            ),
            Message("Compare the answers; LoRALoom's eval_loss is never smoothed."),
        )
    warmup = facts.setting("warmup_steps", facts.setting("warmup_ratio", 0))
    if facts.setting("lr_scheduler_type") == "constant" and isinstance(warmup, int | float) and warmup > 0:
        yield Finding(
            "warning",
            "learning-rate",
            facts.script.where(facts.arguments and facts.arguments.argument("lr_scheduler_type")),
            Message("the schedule `constant` ignores the warmup"),
            Message("Write `constant_with_warmup`."),
        )


def embedding_noise(facts: Facts) -> Iterator[Finding]:
    """Find NEFTune noise that has no effect, because no forward pass calls the module it is added to."""
    alpha = facts.setting("neftune_noise_alpha")
    is_missed = facts.known is not None and not facts.known.calls_input_embeddings
    if is_missed and not facts.is_of_old_version and isinstance(alpha, int | float) and alpha > 0:
        yield Finding(
            "warning",
            "optimizer",
            facts.script.where(facts.arguments and facts.arguments.argument("neftune_noise_alpha")),
            Message(
                "`neftune_noise_alpha` adds no noise with {model}: transformers 5 adds noise to the output "
                "of `shared`, a module that no pass calls",
                model=facts.known.title if facts.known else "",
            ),
            Message("Remove this setting; training does not change."),
        )


def _divides_itself(facts: Facts) -> bool:
    """Return whether the script has its own loss, or sets `accepts_loss_kwargs` to False."""
    for owner, value in facts.assigned("accepts_loss_kwargs", "model_accepts_loss_kwargs"):
        model = facts.script.read(owner)
        is_adapted = isinstance(model, Call) and model.function == "get_peft_model"
        if facts.script.read(value) is False and not is_adapted:
            return True
    has_function = facts.trainer is not None and facts.trainer.argument("compute_loss_func") is not None
    return has_function or facts.script.defines(facts.trainer, "compute_loss")


def resuming(facts: Facts) -> Iterator[Finding]:
    """Find checkpoints that are never resumed, may not exist yet, or are chosen by sorting their names."""
    trains = [call for call in facts.script.calls_of("train") if call.receiver is not None]
    trains = [call for call in trains if facts.script.read(call.receiver) is facts.trainer]  # type: ignore[arg-type]
    given = facts.setting("resume_from_checkpoint")
    is_passed = any(call.argument("resume_from_checkpoint", 0) is not None for call in trains)
    if given not in (None, False) and trains and not is_passed:
        yield Finding(
            "error",
            "resume",
            facts.script.where(facts.arguments and facts.arguments.argument("resume_from_checkpoint")),
            Message("the Trainer does not read this argument: training starts over from step 0"),
            Message("Write `trainer.train(resume_from_checkpoint=…)`."),
        )
    for call in trains:
        if facts.script.value(call, "resume_from_checkpoint", 0) is True:
            yield Finding(
                "note",
                "resume",
                facts.script.where(call),
                Message("the first run has no checkpoint to resume: ValueError"),
                Message("Resume only if `get_last_checkpoint(output_dir)` finds one."),
            )
    for call in facts.script.calls_of("sorted", "max"):
        names = facts.script.value(call, "", 0)
        is_listed = isinstance(names, Call) and names.function in ("glob", "listdir")
        if is_listed and not call.argument("key") and "checkpoint" in ast.dump(names.node):
            yield Finding(
                "warning",
                "resume",
                facts.script.where(call),
                Message("names are sorted as text: `checkpoint-200` comes after `checkpoint-1000`"),
                Message("Use `get_last_checkpoint(output_dir)`; the last checkpoint is rarely the best."),
            )
