"""Checks of a script's optimizer: settings that have no effect, and steps that are too small."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from loraloom.run.documents.checks import Finding
from loraloom.scripts.facts import Facts
from loraloom.scripts.script_values import MISSING, Call, Symbol
from loraloom.text.message import Message, joined
from loraloom.text.visible import quoted

_ARGUMENTS = ("learning_rate", "weight_decay")


def loraplus_decay(facts: Facts) -> Iterator[Finding]:
    """Find a weight decay that PEFT's LoRA+ overrides in every parameter group (PEFT 0.21.2)."""
    for call in facts.script.calls_of("create_loraplus_optimizer"):
        if call.argument("weight_decay") is not None and facts.script.value(call, "weight_decay") != 0:
            has_own = call.argument("loraplus_weight_decay") is not None
            yield Finding(
                "warning",
                "optimizer",
                facts.script.where(call.argument("weight_decay")),
                Message(
                    "`weight_decay` has no effect: `create_loraplus_optimizer` gives every parameter group "
                    "a decay of its own, `loraplus_weight_decay`, which is 0 by default"
                ),
                Message("Remove `weight_decay`.") if has_own else Message("Write `loraplus_weight_decay`."),
            )


def ignored_arguments(facts: Facts) -> Iterator[Finding]:
    """Find training arguments that configure an optimizer although the trainer is given one."""
    given = facts.script.value(facts.trainer, "optimizers")
    # Only a call certainly creates an optimizer; an unread value may be None, as in `(None, schedule)`.
    if facts.arguments is None or not (isinstance(given, list) and given and isinstance(given[0], Call)):
        return
    used = _attributes_read(facts, facts.arguments)
    named = [name for name in _ARGUMENTS if facts.arguments.argument(name) is not None and name not in used]
    if named:
        yield Finding(
            "warning",
            "optimizer",
            facts.script.where(facts.arguments.argument(named[0])),
            Message(
                "{names} of the training arguments are not used, because the trainer is given an optimizer "
                "that already exists",
                names=joined(", ", map(quoted, named)),
            ),
            Message("Set them where the optimizer is created."),
        )


def scaled_steps(facts: Facts) -> Iterator[Finding]:
    """Find uses of Adafactor that scale steps by the size of the weights, although LoRA's B starts at 0."""
    if facts.lora is None:
        return
    for call in facts.script.calls_of("Adafactor"):
        made = facts.script.read(call.node.func)
        package = made.name.partition(".")[0] if isinstance(made, Symbol) else ""
        scales = call.is_complete and facts.script.value(call, "scale_parameter") in (True, MISSING)
        if package == "torch" or (package == "transformers" and scales):
            yield Finding(
                "warning",
                "optimizer",
                facts.script.where(call),
                Message(
                    "Adafactor multiplies the learning rate by the root mean square of each matrix, or by "
                    "0.001 if that is larger: LoRA's B begins at zero, so its steps are a thousand times "
                    "smaller than the rate suggests"
                ),
                Message("Use AdamW, or transformers' Adafactor with `scale_parameter=False`."),
            )


def _attributes_read(facts: Facts, arguments: Call) -> set[str]:
    """Return the names of the attributes that a script reads outside the call that creates the arguments.

    For example, `AdamW(…, lr=arguments.learning_rate)` reads `learning_rate`.
    """
    own = {id(node) for node in ast.walk(arguments.node)}
    return {
        node.attr
        for node in facts.script.walk()
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load) and id(node) not in own
    }
