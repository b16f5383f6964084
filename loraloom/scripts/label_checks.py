"""Checks of a script's labels: padding in the loss, EOS, labels copied from the sources, collators."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence

from loraloom.run.documents.checks import Finding
from loraloom.scripts.facts import Facts
from loraloom.scripts.script_values import MISSING, Call
from loraloom.text.message import Message

PADS = ("max_length", True, "longest")


def padding_in_labels(facts: Facts) -> Iterator[Finding]:
    """Find labels that are padded before they reach the collator, so that the padding counts in the loss."""
    for call in facts.targets:
        padding = padding_of(facts, call)
        if padding not in PADS or _replaces_padding(facts, call):
            continue
        yield Finding(
            "error",
            "labels",
            facts.script.where(call.argument("padding") or call),
            Message(
                "the labels are padded with the padding token and not with -100, so padding counts in the "
                "loss: the loss falls quickly because most labels are padding, and little is learnt about "
                "the answers"
            ),
            Message(
                "Remove `padding` here and let DataCollatorForSeq2Seq pad, which writes -100; or replace "
                "the padding token in the labels with -100."
            ),
        )


def padding_of(facts: Facts, call: Call) -> object:
    """Return the argument `padding` of a call to a tokenizer; False if it is not given."""
    value = facts.script.value(call, "padding")
    return False if value is MISSING else value


def _replaces_padding(facts: Facts, call: Call) -> bool:
    """Return whether the script writes -100 over the padding of labels that a call has tokenized.

    Any -100 in the function that contains the call counts. Elsewhere it must replace other values, because a
    comparison belongs to metrics. `label_pad_token_id` and `ignore_index` never count.
    """
    skipped = {
        id(each)
        for other in facts.script.calls
        for name, value in other.keywords.items()
        if name in ("label_pad_token_id", "ignore_index")
        for each in ast.walk(value)
    }
    written = {id(value) for node in facts.script.walk() for value in _written(node)}
    return any(
        facts.is_minus_100(node)
        for node in facts.script.walk()
        if id(node) not in skipped and (id(node) in written or _same_function(facts, node, call))
    )


def _written(node: ast.AST) -> Sequence[ast.expr]:
    """Return the values that a statement or expression may put in place of others, as expressions."""
    if isinstance(node, ast.Assign) and any(isinstance(each, ast.Subscript) for each in node.targets):
        return [node.value]  # labels[labels == pad] = -100
    if isinstance(node, ast.IfExp):
        return [node.body, node.orelse]  # -100 if token == pad else token
    is_method = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    if is_method and node.func.attr in ("where", "masked_fill", "masked_fill_"):  # type: ignore[attr-defined]
        return node.args  # type: ignore[attr-defined, no-any-return]
    return ()


def _same_function(facts: Facts, node: ast.AST, call: Call) -> bool:
    inner = tuple(part for part in facts.script.scope(node) if not part.startswith("lambda:"))
    return inner == tuple(part for part in call.scope if not part.startswith("lambda:"))


def end_of_labels(facts: Facts) -> Iterator[Finding]:
    """Find labels without an EOS token, or with two of them."""
    for call in facts.targets:
        if facts.script.value(call, "add_special_tokens") is False:
            yield Finding(
                "error",
                "labels",
                facts.script.where(call.argument("add_special_tokens")),
                Message(
                    "the labels get no EOS, so the model never learns to stop and repeats itself up to the "
                    "maximum length"
                ),
                Message("Remove `add_special_tokens=False`."),
            )
    for node in facts.script.walk():
        is_eos = isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add) and _is_eos(node.right)
        if is_eos and any(facts.script.scope(node) == call.scope for call in facts.targets):
            yield Finding(
                "warning",
                "labels",
                facts.script.where(node),
                Message("the tokenizer appends EOS itself, so these texts end with two EOS tokens"),
                Message("Do not append EOS to the text."),
            )


def _is_eos(node: ast.expr) -> bool:
    is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
    if is_text and node.value.strip() == "</s>":  # type: ignore[attr-defined]
        return True
    return isinstance(node, ast.Attribute) and node.attr == "eos_token"


def labels_from_sources(facts: Facts) -> Iterator[Finding]:
    """Find labels that are a copy of the sources, as in scripts for decoder-only models."""
    yield from (_copies(facts, value) for value in facts.copied_labels)
    for call in facts.script.calls_of("DataCollatorForLanguageModeling"):
        if facts.base is not None and not facts.base.owner.endswith("CausalLM"):
            yield _copies(facts, call.node)


def _copies(facts: Facts, node: ast.expr) -> Finding:
    return Finding(
        "error",
        "labels",
        facts.script.where(node),
        Message(
            "the labels are the source's own tokens, as for decoder-only models: an encoder-decoder "
            "learns to copy its source"
        ),
        Message("Tokenize the answers: `tokenizer(text_target=answers)`, with DataCollatorForSeq2Seq."),
    )


def collators(facts: Facts) -> Iterator[Finding]:
    """Find collators that do not pad labels, and label smoothing without decoder inputs."""
    given = facts.script.value(facts.trainer, "data_collator", 2)
    is_missing = facts.trainer is not None and facts.trainer.is_complete and given in (MISSING, None)
    is_padding = isinstance(given, Call) and facts.script.kind(given) == "DataCollatorWithPadding"
    if (is_missing or is_padding) and any(padding_of(facts, call) != "max_length" for call in facts.targets):
        yield Finding(
            "error",
            "labels",
            facts.script.where(given if isinstance(given, Call) else facts.trainer),
            Message("this collator does not pad labels: ValueError as soon as two labels differ in length")
            if is_padding
            else Message(
                "without `data_collator`, labels are not padded: ValueError as soon as two labels differ in "
                "length"
            ),
            Message("Give the trainer `DataCollatorForSeq2Seq(tokenizer, model=model)`."),
        )
    smoothing = facts.setting("label_smoothing_factor")
    is_plain = isinstance(given, Call) and facts.script.kind(given) == "DataCollatorForSeq2Seq"
    if is_plain and isinstance(smoothing, int | float) and smoothing > 0 and not given.argument("model", 1):
        yield Finding(
            "error",
            "labels",
            facts.script.where(given),
            Message(
                "with label smoothing the Trainer takes the labels out of the batch, and without `model` "
                "the collator has made no decoder inputs from them: the first step fails"
            ),
            Message("Write `DataCollatorForSeq2Seq(tokenizer, model=model)`."),
        )


def padding_token(facts: Facts) -> Iterator[Finding]:
    """Find a padding token that is set to EOS, as scripts for decoder-only models do."""
    for node in facts.script.walk():
        if not isinstance(node, ast.Assign) or not isinstance(node.value, ast.Attribute):
            continue
        for target in node.targets:
            is_pad = isinstance(target, ast.Attribute) and target.attr in ("pad_token", "pad_token_id")
            if is_pad and node.value.attr in ("eos_token", "eos_token_id"):
                yield Finding(
                    "error",
                    "labels",
                    facts.script.where(node),
                    Message(
                        "the padding token becomes EOS. Encoder-decoders have a padding token of their "
                        "own; if scripts replace padding in labels with -100, they replace EOS too, and "
                        "the model never learns to stop"
                    ),
                    Message("Remove this line."),
                )
