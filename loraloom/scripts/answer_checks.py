"""Checks of a script's answers: the model that generates them, length, decoding, and merging."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from loraloom.run.documents.checks import Finding
from loraloom.scripts.facts import Facts
from loraloom.scripts.script_values import MISSING, Call, Parameter
from loraloom.text.message import Message, joined
from loraloom.text.units import counted
from loraloom.text.visible import quoted

_SAMPLING = ("temperature", "top_k", "top_p")
_LENGTHS = ("max_new_tokens", "max_length", "generation_config")
_DEFAULT_LENGTH = 20
_FEW = 10
_METRICS = ("compute_metrics", "load_metric", "corpus_bleu", "corpus_chrf", "RougeScorer", "rouge_score")


def generations(facts: Facts) -> list[Call]:
    """Return the calls to `generate`."""
    return [call for call in facts.script.calls_of("generate") if call.receiver is not None]


def ignored_sampling(facts: Facts) -> Iterator[Finding]:
    """Find sampling settings that have no effect."""
    samples = any(facts.script.read(value) is True for _, value in facts.assigned("do_sample"))
    for call in (*generations(facts), *facts.script.calls_of("GenerationConfig")):
        given = [name for name in _SAMPLING if facts.script.value(call, name) not in (MISSING, None)]
        sampled = facts.script.value(call, "do_sample")
        is_deferred = samples or call.argument("generation_config") is not None or not call.is_complete
        if given and sampled in (MISSING, False, None) and not is_deferred:
            yield Finding(
                "warning",
                "answers",
                facts.script.where(call.argument(given[0])),
                Message(
                    "without `do_sample=True`, decoding is greedy and ignores {names}; in a model's "
                    "generation_config, such settings make `save_pretrained` fail",
                    names=joined(", ", map(quoted, given)),
                ),
                Message("Add `do_sample=True`, or remove the sampling settings."),
            )


def answer_length(facts: Facts) -> Iterator[Finding]:
    """Find answers that end after 20 tokens, because the script sets no maximum length."""
    if facts.known is None or not facts.known.is_t5 or any(facts.assigned("max_length", "max_new_tokens")):
        return
    for call in generations(facts):
        if call.is_complete and not any(call.argument(name) for name in _LENGTHS):
            yield Finding(
                "warning",
                "answers",
                facts.script.where(call),
                Message(
                    "without a limit, answers end after {count} tokens, in the middle of a sentence",
                    count=_DEFAULT_LENGTH,
                ),
                Message("Set `max_new_tokens` to the maximum length of the labels."),
            )


def penalized_end(facts: Facts) -> Iterator[Finding]:
    """Find a repetition penalty with a base whose decoder starts with the token that also ends answers."""
    if facts.known is None or not facts.known.starts_with_end:
        return
    for call in (*generations(facts), *facts.script.calls_of("GenerationConfig")):
        penalty = facts.script.value(call, "repetition_penalty")
        if isinstance(penalty, int | float) and penalty > 1:
            yield Finding(
                "note",
                "answers",
                facts.script.where(call.argument("repetition_penalty")),
                Message(
                    "`repetition_penalty` makes the end token of an answer less likely from the start, "
                    "because {model} begins every answer with that token: answers become longer",
                    model=facts.known.title,
                ),
                Message("Use `no_repeat_ngram_size`."),
            )


def special_tokens(facts: Facts) -> Iterator[Finding]:
    """Find answers that are decoded together with their padding and EOS tokens."""
    for call in facts.script.calls_of("decode", "batch_decode"):
        given = call.argument("skip_special_tokens", 1)
        shown = "".join(map(ast.unparse, call.arguments[:1]))
        if call.receiver is None or given is not None or not call.is_complete or "input_ids" in shown:
            continue
        if facts.is_tokenizer(call.receiver):
            yield Finding(
                "warning",
                "answers",
                facts.script.where(call),
                Message("answers are decoded with `<pad>` and `</s>`, which metrics then count as words"),
                Message("Add `skip_special_tokens=True`."),
            )


def dropout_in_answers(facts: Facts) -> Iterator[Finding]:
    """Find answers generated right after training, with dropout still on."""
    script = facts.script
    trained = _first(facts, "train", facts.trainer)
    if trained is None or facts.setting("eval_strategy", Message("no")) != "no":
        return
    between = script.calls_of("eval", "evaluate", "predict", "from_pretrained", "merge_and_unload")
    for call in generations(facts):
        is_after = call.line > trained.line and call.scope == trained.scope
        if is_after and not any(trained.line <= other.line <= call.line for other in between):
            yield Finding(
                "warning",
                "answers",
                script.where(call),
                Message(
                    "after `train()` the model is still in training mode: dropout changes its answers, "
                    "which are worse and differ each time"
                ),
                Message("Call `model.eval()` first."),
            )
            return


def _first(facts: Facts, method: str, owner: Call | None) -> Call | None:
    for call in facts.script.calls_of(method):
        if owner is not None and call.receiver is not None and facts.script.read(call.receiver) is owner:
            return call
    return None


def base_answers(facts: Facts) -> Iterator[Finding]:
    """Find answers of a base that was loaded again, without the adapter."""
    script = facts.script
    trained = _first(facts, "train", facts.trainer)
    if trained is None or facts.lora is None:
        return
    wrapped = [
        script.value(call, "model", 0)
        for call in script.calls
        if call.owner == "PeftModel" or call.function == "get_peft_model"
    ]
    loaded = [script.read(call.receiver) for call in script.calls_of("load_adapter") if call.receiver]
    for call in generations(facts):
        model = facts.root(script.read(call.receiver))  # type: ignore[arg-type]
        is_base = isinstance(model, Call) and model in facts.model_calls and model.line > trained.line
        if (
            is_base
            and _is_bare(facts, model)
            and model not in [facts.root(each) for each in (*wrapped, *loaded)]
        ):
            yield Finding(
                "error",
                "adapter",
                script.where(call),
                Message(
                    "this model is the base, loaded again without the adapter: its answers are the base's"
                ),
                Message("Load the model with `PeftModel.from_pretrained(base, adapter_folder)`."),
            )


def _is_bare(facts: Facts, model: Call) -> bool:
    """Return whether a call loads the base by its name, rather than the folder of the saved adapter."""
    name = facts.script.value(model, "pretrained_model_name_or_path", 0)
    return isinstance(name, str) and name == facts.model_name


def merging(facts: Facts) -> Iterator[Finding]:
    """Find a merged model that is discarded."""
    kept = {id(node.value) for node in facts.script.walk() if isinstance(node, ast.Expr)}
    for call in facts.script.calls_of("merge_and_unload"):
        if id(call.node) in kept:
            yield Finding(
                "error",
                "merge",
                facts.script.where(call),
                Message(
                    "`merge_and_unload` returns the merged model, which is discarded here; the object that "
                    "remains saves an adapter without any weights"
                ),
                Message("Write `model = model.merge_and_unload()`."),
            )


def few_prompts(facts: Facts) -> Iterator[Finding]:
    """Find models that are judged by a handful of prompts."""
    names = {call.function for call in facts.script.calls} | {
        name for call in facts.script.calls for name in call.keywords
    }
    if names & set(_METRICS) or any(call.name == "evaluate.load" for call in facts.script.calls):
        return
    calls = generations(facts)
    prompts = [
        prompts
        for node in facts.script.walk()
        if isinstance(node, ast.For)
        if (prompts := _texts(facts, node.iter))
    ]
    if calls and facts.trainer is not None and prompts:
        count = max(map(len, prompts))
        if count <= _FEW:
            yield Finding(
                "note",
                "answers",
                facts.script.where(calls[0]),
                Message(
                    "the result is judged by {prompts}; so few cannot show which model is better",
                    prompts=counted(count, "prompt"),
                ),
                Message("Answer all held-out rows: `loraloom compare` gives intervals."),
            )


def _texts(facts: Facts, node: ast.expr) -> list[str]:
    if isinstance(node, ast.Call) and node.args:
        node = node.args[0]  # enumerate(prompts)
    value = facts.script.read(node)
    if isinstance(value, Parameter) or not isinstance(value, list) or len(value) < 2:
        return []
    return value if all(isinstance(each, str) and len(each) > 3 for each in value) else []


def beams(facts: Facts) -> Iterator[Finding]:
    """Find greedy decoding with a multilingual base, whose published scores are for beam search."""
    calls = [
        call for call in generations(facts) if call.is_complete and not call.argument("generation_config")
    ]
    has_beams = any(call.argument("num_beams") for call in facts.script.calls) or facts.setting(
        "generation_num_beams"
    )
    if facts.known is not None and facts.known.languages and calls and not has_beams:
        sampled = any(facts.script.value(call, "do_sample") is True for call in calls)
        if not sampled:
            yield Finding(
                "note",
                "answers",
                facts.script.where(calls[0]),
                Message(
                    "answers are greedy, but the published BLEU of {model} was measured with beam search",
                    model=facts.known.title,
                ),
                Message("Add `num_beams=4` if you compare with published figures."),
            )
