"""Checks of a script's metrics: the one that selects the checkpoint, and the answers that are scored."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from loraloom.run.documents.checks import Finding
from loraloom.scripts.facts import Facts
from loraloom.text.message import Message
from loraloom.text.visible import quoted

_DEFAULT_LENGTH = 20  # of `generate`, without a limit
_BLEU_LIKE = ("rouge", "bleu", "chrf", "meteor", "accuracy", "f1", "exact")
_LOWER_IS_BETTER = ("ter", "wer", "cer", "perplexity")


def selection(facts: Facts) -> Iterator[Finding]:
    """Find a metric that is to select the checkpoint, but is never computed or would select the worst one."""
    metric = facts.setting("metric_for_best_model")
    if not isinstance(metric, str) or facts.arguments is None:
        return
    name = metric.removeprefix("eval_").lower()
    given = facts.arguments.argument("greater_is_better")
    place = facts.script.where(facts.arguments.argument("metric_for_best_model"))
    if (
        facts.trainer is not None
        and not name.endswith("loss")
        and _computes(facts) is None
        and not facts.script.defines(facts.trainer, "evaluate", "evaluation_loop")
        and facts.trainer.is_complete
    ):
        yield Finding(
            "error",
            "metrics",
            place,
            Message(
                "the trainer has no `compute_metrics`, so {metric} is never computed: KeyError at the "
                "first evaluation",
                metric=quoted(metric),
            ),
            Message("Give the trainer `compute_metrics`, or select by `eval_loss`."),
        )
    greater = facts.setting("greater_is_better")
    greater = not name.endswith("loss") if greater is None else greater
    is_lower = name == "loss" or name in _LOWER_IS_BETTER
    is_higher = any(part in name for part in _BLEU_LIKE)
    if (greater is True and is_lower) or (greater is False and is_higher and not is_lower):
        yield Finding(
            "error",
            "metrics",
            facts.script.where(given) if given else place,
            Message(
                "the checkpoint with the worst {metric} would be kept: `greater_is_better` is {value}",
                metric=quoted(metric),
                value=quoted(str(greater)),
            ),
            Message("Set `greater_is_better={value}`.", value=str(not greater)),
        )


def _computes(facts: Facts) -> ast.expr | None:
    return None if facts.trainer is None else facts.trainer.argument("compute_metrics")


def generated_metrics(facts: Facts) -> Iterator[Finding]:
    """Find metrics that are not computed from answers, and answers that are cut off or not used."""
    node = _computes(facts)
    function = facts.script.function_of(node)
    decodes = [
        each
        for each in (ast.walk(function) if function else ())
        if isinstance(each, ast.Call)
        and isinstance(each.func, ast.Attribute)
        and each.func.attr in ("batch_decode", "decode")
    ]
    generates = facts.is_on("predict_with_generate")
    if generates and facts.trainer is not None and facts.script.kind(facts.trainer) == "Trainer":
        yield Finding(
            "error",
            "metrics",
            facts.script.where(facts.trainer),
            Message("`Trainer` ignores `predict_with_generate`, so metrics get logits instead of answers"),
            Message("Use Seq2SeqTrainer."),
        )
    elif (
        decodes
        and facts.arguments is not None
        and facts.setting("predict_with_generate", False) is False
        and not _takes_likeliest(facts, function)
    ):
        yield Finding(
            "error",
            "metrics",
            facts.script.where(node),
            Message(
                "without `predict_with_generate=True` this function gets logits of every token of the "
                "vocabulary, not tokens: decoding fails, or memory runs out before that"
            ),
            Message("Set `predict_with_generate=True` in Seq2SeqTrainingArguments."),
        )
    if generates and node is None and facts.trainer is not None and facts.trainer.is_complete:
        yield Finding(
            "warning",
            "metrics",
            facts.script.where(facts.arguments and facts.arguments.argument("predict_with_generate")),
            Message(
                "`predict_with_generate` without `compute_metrics` generates answers at each evaluation, "
                "which takes a long time, and throws them away"
            ),
            Message("Give the trainer `compute_metrics`, or remove `predict_with_generate`."),
        )
    if decodes and function is not None and not _has_minus_100(facts, function):
        yield Finding(
            "error",
            "metrics",
            facts.script.where(decodes[0]),
            Message("labels and predictions are padded with -100, which is not a token: decoding them fails"),
            Message("Replace -100 in both first: `np.where(ids != -100, ids, tokenizer.pad_token_id)`."),
        )
    yield from _answer_length(facts)


def _takes_likeliest(facts: Facts, function: ast.AST | None) -> bool:
    """Return whether logits are replaced by the most likely tokens before decoding."""
    if facts.trainer is not None and facts.trainer.argument("preprocess_logits_for_metrics") is not None:
        return True
    return function is not None and any(
        isinstance(node, ast.Attribute) and node.attr == "argmax" for node in ast.walk(function)
    )


def _has_minus_100(facts: Facts, function: ast.AST) -> bool:
    """Return whether a function, or one of the script that it calls, contains -100 or a comparison with 0."""
    called = [
        facts.script.function_of(node.func) for node in ast.walk(function) if isinstance(node, ast.Call)
    ]
    for node in (each for own in (function, *called) if own is not None for each in ast.walk(own)):
        zeros = node.comparators if isinstance(node, ast.Compare) else []
        if facts.is_minus_100(node) or any(
            isinstance(each, ast.Constant) and each.value == 0 for each in zeros
        ):
            return True
    return False


def _answer_length(facts: Facts) -> Iterator[Finding]:
    if not facts.is_on("predict_with_generate") or facts.arguments is None:
        return
    length = facts.setting("generation_max_length")
    # The limit of a call that also reads sources is theirs.
    limits = [facts.script.value(call, "max_target_length") for call in facts.targets]
    limits += [facts.script.value(call, "max_length") for call in facts.targets if call not in facts.sources]
    longest = max((limit for limit in limits if isinstance(limit, int)), default=None)
    given = facts.arguments.argument("generation_max_length")
    passed = any(
        call.argument("max_length") or call.argument("max_new_tokens")
        for call in facts.script.calls_of("evaluate", "predict", "GenerationConfig")
    )
    passed = passed or any(facts.assigned("max_length", "max_new_tokens"))
    if length is None and not passed and not facts.arguments.argument("generation_config"):
        if facts.known is None or facts.known.is_t5:
            yield Finding(
                "warning",
                "metrics",
                facts.script.where(facts.arguments),
                Message(
                    "without `generation_max_length` the answers of an evaluation end after {count} "
                    "tokens, and metrics compare only the beginnings of answers",
                    count=_DEFAULT_LENGTH,
                ),
                Message("Set `generation_max_length` to the length of the longest answers."),
            )
    elif isinstance(length, int) and longest is not None and length < longest:
        yield Finding(
            "warning",
            "metrics",
            facts.script.where(given),
            Message(
                "answers are cut at {length} tokens, while labels have up to {longest}",
                length=length,
                longest=longest,
            ),
            Message("Set `generation_max_length={longest}`.", longest=longest),
        )
