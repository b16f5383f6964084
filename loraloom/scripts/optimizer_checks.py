"""Optimizer of a script: settings that do not reach it."""

from __future__ import annotations

from collections.abc import Iterator

from loraloom.run.documents.checks import Finding
from loraloom.scripts.facts import Facts
from loraloom.scripts.values import MISSING, Symbol
from loraloom.text.message import Message, joined
from loraloom.text.visible import quoted

_ARGUMENTS = ("learning_rate", "weight_decay")


def loraplus_decay(facts: Facts) -> Iterator[Finding]:
    """Find a weight decay that PEFT's LoRA+ overrides in every parameter group (PEFT 0.21.2)."""
    for call in facts.script.calls_of("create_loraplus_optimizer"):
        if call.argument("weight_decay") is not None and facts.script.value(call, "weight_decay") != 0:
            yield Finding(
                "warning",
                "optimizer",
                facts.script.where(call.argument("weight_decay")),
                Message(
                    "`weight_decay` has no effect: `create_loraplus_optimizer` gives every parameter group "
                    "a decay of its own, which is 0"
                ),
                Message("Write `loraplus_weight_decay`."),
            )


def ignored_arguments(facts: Facts) -> Iterator[Finding]:
    """Find training arguments for an optimizer, beside an optimizer that the trainer is given."""
    given = facts.script.value(facts.trainer, "optimizers", None)
    if facts.arguments is None or given in (MISSING, None) or isinstance(given, Symbol):
        return
    if isinstance(given, tuple | list) and given and given[0] is None:
        return  # a schedule alone
    named = [name for name in _ARGUMENTS if facts.arguments.argument(name) is not None]
    if named:
        yield Finding(
            "warning",
            "optimizer",
            facts.script.where(facts.arguments.argument(named[0])),
            Message(
                "{names} of the training arguments are not used, because the trainer is given an optimizer "
                "that is made already",
                names=joined(", ", map(quoted, named)),
            ),
            Message("Set them where the optimizer is made."),
        )
