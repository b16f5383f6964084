"""Checks of a script's adapter: targets, frozen or unused adapters, learning rate, length of training."""

from __future__ import annotations

from collections.abc import Iterator

from loraloom.recipe.module_names import is_norm_name
from loraloom.run.documents.checks import Finding
from loraloom.scripts.facts import Facts
from loraloom.scripts.script_values import MISSING, Call, Symbol
from loraloom.text.message import Message, joined
from loraloom.text.visible import quoted

# LoRA starts at no change and takes 1e-4 to 1e-3; these are rates for training all weights.
LOW_RATE = 5e-5
FEW_STEPS = 50


def targets(facts: Facts) -> Iterator[Finding]:
    """Find `target_modules` that match nothing in the base, or that are missing though PEFT needs them."""
    if facts.lora is None or facts.known is None:
        return
    known, given = facts.known, facts.script.value(facts.lora, "target_modules")
    where = facts.script.where(facts.lora.argument("target_modules") or facts.lora)
    own = ", ".join(sorted(known.linears))
    if given is MISSING or given is None:
        if not known.peft_targets:
            yield Finding(
                "error",
                "targets",
                where,
                Message(
                    "PEFT has no default `target_modules` for {model}: ValueError in `get_peft_model`",
                    model=known.title,
                ),
                Message('Set `target_modules="all-linear"`, or list some of {own}.', own=own),
            )
        return
    names = [given] if isinstance(given, str) else given if isinstance(given, list) else []
    plain = [name for name in names if isinstance(name, str) and name.isidentifier()]
    if isinstance(given, str) and (given == "all-linear" or not plain):
        return  # a regular expression
    missing = [name for name in plain if name not in known.linears and name not in ("lm_head", "shared")]
    if not missing:
        return
    listed = joined(", ", map(quoted, missing))
    none_left = len(missing) == len(names)
    yield Finding(
        "error" if none_left else "warning",
        "targets",
        where,
        Message("{model} has no {names}: `get_peft_model` fails", model=known.title, names=listed)
        if none_left
        else Message(
            "{model} has no {names}; PEFT silently adapts only the other names",
            model=known.title,
            names=listed,
        ),
        Message('Choose among the linear layers {own}, or write "all-linear".', own=own),
    )


def task_type(facts: Facts) -> Iterator[Finding]:
    """Find a `task_type` other than the one for encoder-decoder models."""
    value = facts.script.value(facts.lora, "task_type")
    name = value.last if isinstance(value, Symbol) else value
    if facts.lora is None or not isinstance(name, str) or name == "SEQ_2_SEQ_LM":
        return
    if facts.known is None and not (facts.base and facts.base.owner.endswith("Seq2SeqLM")):
        return
    yield Finding(
        "warning",
        "targets",
        facts.script.where(facts.lora.argument("task_type")),
        Message(
            "the adapter is saved with `task_type` {name}, so AutoPeftModelForSeq2SeqLM refuses to load it",
            name=quoted(name),
        ),
        Message('Write `task_type="SEQ_2_SEQ_LM"`.'),
    )


def frozen_adapters(facts: Facts) -> Iterator[Finding]:
    """Find adapters that are not trained: created or loaded for inference, or frozen afterwards."""
    script, message = (
        facts.script,
        Message(
            "the adapter is frozen, so nothing can be trained: `element 0 of tensors does not require grad`"
        ),
    )
    if facts.lora is not None and script.value(facts.lora, "inference_mode") is True and facts.trainer:
        yield Finding(
            "error",
            "adapter",
            script.where(facts.lora.argument("inference_mode")),
            message,
            Message("Write `inference_mode=False`."),
        )
    trained = script.value(facts.trainer, "model", 0)
    is_loaded = isinstance(trained, Call) and trained.name.endswith("PeftModel.from_pretrained")
    if is_loaded and script.value(trained, "is_trainable") in (MISSING, False):
        yield Finding(
            "error",
            "adapter",
            script.where(trained),
            message,
            Message("Write `PeftModel.from_pretrained(…, is_trainable=True)`."),
        )
    for call in script.calls_of("prepare_model_for_kbit_training"):
        inner = script.value(call, "model", 0)
        if isinstance(inner, Call) and inner.function == "get_peft_model":
            yield Finding(
                "error",
                "adapter",
                script.where(call),
                Message(
                    "`prepare_model_for_kbit_training` freezes every parameter; after `get_peft_model`, "
                    "this includes those of the adapter, so nothing is trained"
                ),
                Message("Call `prepare_model_for_kbit_training` before `get_peft_model`."),
            )


def adapter_in_use(facts: Facts) -> Iterator[Finding]:
    """Find a LoraConfig that is not used, and a Trainer that is given the base without the adapter."""
    script = facts.script
    wrapped = script.calls_of("get_peft_model", "add_adapter")
    if facts.lora is not None and not wrapped and not _is_given(facts):
        yield Finding(
            "error",
            "adapter",
            script.where(facts.lora),
            Message("this LoraConfig is never used: all weights of the base are trained"),
            Message("Train the model that `get_peft_model(model, config)` returns."),
        )
    trained = script.value(facts.trainer, "model", 0)
    for call in wrapped:
        inner = script.value(call, "model", 0)
        if isinstance(inner, Call) and trained is inner and call.function == "get_peft_model":
            yield Finding(
                "error",
                "adapter",
                script.where(facts.trainer),
                Message(
                    "the trainer is given the base instead of the model that `get_peft_model` returned: "
                    "checkpoints contain the whole base under PEFT's names, which `from_pretrained` does "
                    "not know"
                ),
                Message("Give the trainer the result of `get_peft_model`."),
            )


def _is_given(facts: Facts) -> bool:
    """Return whether a LoraConfig is an argument of another call, such as a trainer's."""
    for call in facts.script.calls:
        for node in (*call.arguments, *call.keywords.values()):
            if call is not facts.lora and facts.script.read(node) is facts.lora:
                return True
    return False


def learning_rate(facts: Facts) -> Iterator[Finding]:
    """Find learning rates meant for training all weights, and training that ends after a few steps."""
    if facts.lora is None or facts.arguments is None or facts.trainer is None:
        return
    rate = facts.setting("learning_rate", LOW_RATE)
    given = facts.arguments.argument("learning_rate")
    if isinstance(rate, int | float) and 0 < rate <= LOW_RATE:
        yield Finding(
            "warning",
            "learning-rate",
            facts.script.where(given or facts.arguments),
            Message(
                "{rate:g}{default} is a rate for training all weights. LoRA starts from no change at all "
                "and needs 1e-4 to 1e-3; at this rate answers may equal the base's",
                rate=float(rate),
                default="" if given else Message(", the Trainer's default,"),
            ),
            Message("Set `learning_rate=3e-4`; `loraloom check RECIPE --find-lr` tries eight rates."),
        )
    steps = facts.setting("max_steps")
    if isinstance(steps, int) and 0 < steps < FEW_STEPS:
        yield Finding(
            "warning",
            "learning-rate",
            facts.script.where(facts.arguments.argument("max_steps")),
            Message(
                "`max_steps` ends training after {steps}, regardless of epochs; answers may equal the base's",
                steps=Message.counting("{count:,} step", "{count:,} steps", count=steps),
            ),
            Message("Remove `max_steps`."),
        )


def new_tokens(facts: Facts) -> Iterator[Finding]:
    """Find embeddings of new tokens, which LoRA does not train."""
    if facts.lora is None or facts.lora.argument("trainable_token_indices"):
        return
    saved = facts.script.value(facts.lora, "modules_to_save")
    names = saved if isinstance(saved, list) else []
    if saved is not MISSING and not (names and all(isinstance(n, str) and is_norm_name(n) for n in names)):
        return
    for call in facts.script.calls_of("resize_token_embeddings"):
        yield Finding(
            "warning",
            "adapter",
            facts.script.where(call),
            Message("the embeddings of new tokens are random and frozen: LoRA trains only linear layers"),
            Message("Use text that the tokenizer knows, or give LoraConfig `trainable_token_indices`."),
        )
