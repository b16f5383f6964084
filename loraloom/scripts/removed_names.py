"""Names that a script uses, but that the installed transformers, PEFT or datasets no longer has."""

from __future__ import annotations

from collections.abc import Iterator

from loraloom.recipe.typos import nearest
from loraloom.run.documents.checks import Finding
from loraloom.scripts.facts import ARGUMENTS, TRAINERS, Facts
from loraloom.scripts.installed import FILES, parameters, version
from loraloom.scripts.script_values import Call, Symbol
from loraloom.text.message import Message
from loraloom.text.visible import quoted

_GONE = Message("Remove it.")
_INSTEAD = {
    "evaluation_strategy": Message("Write `eval_strategy`."),
    "warmup_ratio": Message("Write `warmup_steps`; a value below 1 is a share of all steps."),
    "group_by_length": Message('Write `train_sampling_strategy="group_by_length"`.'),
    "no_cuda": Message("Write `use_cpu`."),
    "tokenizer": Message("Write `processing_class`."),
    "per_gpu_train_batch_size": Message("Write `per_device_train_batch_size`."),
    "per_gpu_eval_batch_size": Message("Write `per_device_eval_batch_size`."),
    "adafactor": Message('Write `optim="adafactor"`.'),
    "push_to_hub_token": Message("Write `hub_token`."),
    "predict_with_generate": Message("Use `Seq2SeqTrainingArguments`."),
    "generation_max_length": Message("Use `Seq2SeqTrainingArguments`."),
    "generation_num_beams": Message("Use `Seq2SeqTrainingArguments`."),
    "lora_r": Message("Write `r`."),
    "use_int8_training": _GONE,
}
_MODEL_KEYS = ("load_in_8bit", "load_in_4bit")
_PIPELINES = ("text2text-generation", "summarization", "translation")
_METHODS = {
    "as_target_tokenizer": Message("Write `tokenizer(text_target=…)` without a `with` block."),
    "batch_encode_plus": Message("Call the tokenizer: `tokenizer(texts, …)`."),
    "encode_plus": Message("Call the tokenizer: `tokenizer(text, …)`."),
    "prepare_seq2seq_batch": Message("Call the tokenizer: `tokenizer(texts, text_target=…)`."),
}
_IMPORTS = {
    "transformers.AdamW": Message("Import `AdamW` from torch.optim."),
    "transformers.optimization.AdamW": Message("Import `AdamW` from torch.optim."),
    "datasets.load_metric": Message("Use the packages `evaluate` or `sacrebleu`."),
    "peft.prepare_model_for_int8_training": Message("Use `prepare_model_for_kbit_training`."),
}


def removed_names(facts: Facts) -> Iterator[Finding]:
    """Find keyword arguments, methods, functions and tasks that no longer exist."""
    yield from _unknown_keywords(facts)
    yield from _model_keywords(facts)
    yield from _methods(facts)
    yield from _imports(facts)
    yield from _pipelines(facts)


def _unknown_keywords(facts: Facts) -> Iterator[Finding]:
    for call in facts.script.calls:
        kind = facts.script.kind(call)
        is_own = facts.script.defines(call, "__init__")
        known = parameters(kind) if kind in FILES and not is_own else frozenset()
        known |= facts.script.fields(call) if known else frozenset()
        package = FILES[kind][0] if known else ""
        for name in [each for each in call.keywords if known and each not in known]:
            other = nearest(name, known)
            fix = _INSTEAD.get(name) or (
                Message("Did you mean {other}?", other=quoted(other)) if other else _GONE
            )
            yield _failure(
                facts,
                facts.script.where(call.keywords[name]),
                Message(
                    "{kind} of {package} {version} has no argument {name}: TypeError",
                    kind=quoted(kind),
                    package=package,
                    version=version(package),
                    name=quoted(name),
                ),
                fix,
                is_old=facts.is_of_old_version and kind in (*ARGUMENTS, *TRAINERS),
            )


def _model_keywords(facts: Facts) -> Iterator[Finding]:
    for call in facts.model_calls:
        for name in [each for each in _MODEL_KEYS if each in call.keywords]:
            yield _failure(
                facts,
                facts.script.where(call.keywords[name]),
                Message("transformers 5 has no argument {name} here: TypeError", name=quoted(name)),
                Message(
                    "Write `quantization_config=BitsAndBytesConfig({name}=True)`; in a recipe it is "
                    "`quantization`.",
                    name=name,
                ),
                is_old=facts.is_of_old_version,
            )


def _methods(facts: Facts) -> Iterator[Finding]:
    for call in facts.script.calls_of(*_METHODS):
        if call.receiver is not None and facts.is_tokenizer(call.receiver):
            yield _failure(
                facts,
                facts.script.where(call),
                Message(
                    "tokenizers of transformers 5 have no {name}: AttributeError", name=quoted(call.function)
                ),
                _METHODS[call.function],
                is_old=facts.is_of_old_version,
            )


def _imports(facts: Facts) -> Iterator[Finding]:
    for call in facts.script.calls:
        for full in (call.name, _full_name(facts, call)):
            if full in _IMPORTS:
                package, _, name = full.partition(".")
                yield _failure(
                    facts,
                    facts.script.where(call),
                    Message(
                        "{package} {version} has no {name}: it cannot be imported",
                        package=package,
                        version=version(package),
                        name=quoted(name.rpartition(".")[2]),
                    ),
                    _IMPORTS[full],
                    is_old=facts.is_of_old_version and package == "transformers",
                )
                break


def _full_name(facts: Facts, call: Call) -> str:
    value = facts.script.read(call.node.func)
    return value.name if isinstance(value, Symbol) else ""


def _pipelines(facts: Facts) -> Iterator[Finding]:
    for call in facts.script.calls_of("pipeline"):
        task = facts.script.value(call, "task", 0)
        if isinstance(task, str) and (task in _PIPELINES or task.startswith("translation_")):
            yield _failure(
                facts,
                facts.script.where(call),
                Message("transformers 5 has no pipeline {task}: KeyError", task=quoted(task)),
                Message("Call `model.generate` and decode its tokens, or use `loraloom predict`."),
                is_old=facts.is_of_old_version,
            )


def _failure(facts: Facts, where: str, message: Message, fix: str, *, is_old: bool) -> Finding:
    """Return a finding: an error, or a note if the script installs an older version that has the name."""
    if not is_old:
        return Finding("error", "removed-names", where, message, fix)
    pinned = facts.script.source.pinned["transformers"]
    said = Message("{message}; the script installs transformers {version}", message=message, version=pinned)
    return Finding("note", "removed-names", where, said, fix)
