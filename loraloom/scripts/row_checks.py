"""Checks of a script's rows: lengths, columns that reach the collator, and training and evaluation rows."""

from __future__ import annotations

from collections.abc import Iterator

from loraloom.run.documents.checks import Finding
from loraloom.scripts.facts import Facts
from loraloom.scripts.label_checks import PADS, padding_of
from loraloom.scripts.script_values import MISSING, Call, Item, Parameter, Unread
from loraloom.text.message import Message

_EVALUATION = ("test", "validation", "valid", "dev", "eval")


def padding_of_sources(facts: Facts) -> Iterator[Finding]:
    """Find sources that are all padded to one length."""
    for call in facts.sources:
        if padding_of(facts, call) == "max_length" and call not in facts.targets:
            yield Finding(
                "warning",
                "padding",
                facts.script.where(call.argument("padding") or call),
                Message(
                    "every source is padded to the maximum length, so most of the work is padding if "
                    "texts are short"
                ),
                Message("Remove `padding` here; DataCollatorForSeq2Seq pads each batch to its longest row."),
            )


def truncation(facts: Facts) -> Iterator[Finding]:
    """Find length limits that have no effect."""
    has_limit = any(facts.given("model_max_length"))
    for call in dict.fromkeys((*facts.sources, *facts.targets)):
        truncates, limit = facts.script.value(call, "truncation"), facts.script.value(call, "max_length")
        if limit is not MISSING and truncates in (MISSING, False) and padding_of(facts, call) in PADS:
            yield Finding(
                "warning",
                "truncation",
                facts.script.where(call.argument("max_length") or call),
                Message(
                    "with `padding` but without `truncation=True`, `max_length` only pads: long rows stay "
                    "long"
                ),
                Message("Add `truncation=True`."),
            )
        elif truncates is True and limit is MISSING and facts.known and facts.known.is_t5 and not has_limit:
            yield Finding(
                "note",
                "truncation",
                facts.script.where(call),
                Message(
                    "`truncation=True` without `max_length` truncates to the tokenizer's model_max_length, "
                    "which is 512 or unlimited in the T5 family"
                ),
                Message("Add `max_length`."),
            )


def columns(facts: Facts) -> Iterator[Finding]:
    """Find text columns that reach the collator, or that the Trainer removes too early."""
    maps = [call for call in facts.script.calls_of("map") if call.receiver is not None]
    keeps = [call for call in maps if not call.argument("remove_columns")]
    if facts.script.calls_of("remove_columns", "select_columns"):
        keeps = []
    if facts.setting("remove_unused_columns") is False and keeps and facts.targets:
        yield Finding(
            "warning",
            "columns",
            facts.script.where(facts.arguments and facts.arguments.argument("remove_unused_columns")),
            Message(
                "text columns stay in the rows, and the collator cannot make tensors of them: ValueError"
            ),
            Message("Give `map` the argument `remove_columns=dataset.column_names`."),
        )
    for call in facts.script.calls_of("with_transform", "set_transform"):
        if facts.setting("remove_unused_columns", True) is True and facts.trainer is not None:
            yield Finding(
                "error",
                "columns",
                facts.script.where(call),
                Message(
                    "the Trainer removes the text columns that this function reads, because the model does "
                    "not take them: the function fails before the first step"
                ),
                Message("Set `remove_unused_columns=False`."),
            )


def splits(facts: Facts) -> Iterator[Finding]:
    """Find rows that are used for both training and evaluation, and splits that change with every run."""
    train = facts.script.value(facts.trainer, "train_dataset", 3)
    held_out = facts.script.value(facts.trainer, "eval_dataset", 4)
    part = _part(train)
    where = facts.script.where(facts.trainer and facts.trainer.argument("train_dataset", 3))
    if part in _EVALUATION:
        yield Finding(
            "error",
            "split",
            where,
            Message(
                "training uses the part `{part}`, whose figures then say nothing about new rows", part=part
            ),
            Message('Train on `dataset["train"]`.'),
        )
    elif not isinstance(train, Unread | Parameter) and _same(train, held_out):
        yield Finding(
            "error",
            "split",
            where,
            Message("the evaluation uses the rows that are trained on, so overfitting cannot be seen"),
            Message("Hold rows out: `dataset.train_test_split(test_size=0.1, seed=42)`."),
        )
    # Without a seed of its own, a split is drawn with numpy's.
    is_seeded = any(
        call.name == "numpy.random.seed" or call.function in ("set_seed", "enable_full_determinism")
        for call in facts.script.calls
    )
    for call in facts.script.calls_of("train_test_split"):
        is_drawn = facts.script.value(call, "shuffle") is not False
        if is_drawn and not is_seeded and not call.argument("seed") and not call.argument("random_state"):
            yield Finding(
                "note",
                "split",
                facts.script.where(call),
                Message(
                    "the split is drawn again in every run: after a resume, rows that were held out are "
                    "trained on"
                ),
                Message("Add `seed=42`."),
            )


def _part(value: object) -> str:
    for _ in range(20):
        if isinstance(value, Item) and isinstance(value.key, str):
            return value.key
        value = value.of if isinstance(value, Item) else None
    return ""


def _same(one: object, other: object) -> bool:
    if isinstance(one, Item) and isinstance(other, Item):
        return one.key == other.key and _same(one.of, other.of)
    return one is other and isinstance(one, Call)
