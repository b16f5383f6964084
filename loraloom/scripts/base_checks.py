"""Checks of a script's base: class, precision, quantization."""

from __future__ import annotations

from collections.abc import Iterator

from loraloom.run.documents.checks import Finding
from loraloom.scripts.facts import Facts
from loraloom.scripts.script_values import MISSING, Call, Symbol
from loraloom.text.message import Message

_HALF = ("float16", "half", "fp16")


def precision(facts: Facts) -> Iterator[Finding]:
    """Find float16 used with a model of the T5 family."""
    if facts.known is None or not facts.known.is_t5:
        return
    script = facts.script
    places = [facts.arguments.argument("fp16")] if facts.arguments and facts.is_on("fp16") else []
    for call in facts.model_calls:
        for name in ("dtype", "torch_dtype"):
            value = script.value(call, name)
            text = value.last if isinstance(value, Symbol) else value
            if text in _HALF:
                places.append(call.argument(name))
    places += [call.node for call in script.calls_of("half") if call.receiver is not None]
    for node in places:
        yield Finding(
            "error",
            "precision",
            script.where(node),
            Message(
                "float16 overflows in the T5 family, which was trained in bfloat16: the loss becomes 0 or "
                "NaN, which the Trainer logs as 0.0, and answers are empty"
            ),
            Message("Use bfloat16 on a GPU that computes in it (`bf16=True`), and float32 on a T4 or V100."),
        )


def model_class(facts: Facts) -> Iterator[Finding]:
    """Find model classes without the right head, and bases that were not trained to follow instructions."""
    for call in facts.model_calls:
        if (
            call.owner in ("AutoModelForCausalLM", "AutoModel")
            and facts.known is not None
            and call is facts.base
        ):
            said = (
                Message("an encoder-decoder is not a causal model: ValueError, or only the decoder is loaded")
                if call.owner == "AutoModelForCausalLM"
                else Message("AutoModel has no output head, so there is no loss")
            )
            yield Finding(
                "error", "base", facts.script.where(call), said, Message("Use AutoModelForSeq2SeqLM.")
            )
    if facts.known is not None and facts.known.is_gap_filler and facts.base is not None:
        yield Finding(
            "note",
            "base",
            facts.script.where(facts.base),
            Message(
                "{model} was only trained to fill gaps in texts: without much training it answers with "
                "`<extra_id_0>` or repeats itself",
                model=facts.known.title,
            ),
            Message("For instructions, begin with mt0 or flan-T5, which were trained to follow them."),
        )


def quantization(facts: Facts) -> Iterator[Finding]:
    """Find a quantized base that is not prepared for training, or that an adapter is merged into."""
    script = facts.script
    quantized = [call for call in facts.model_calls if _is_quantized(facts, call)]
    prepared = script.calls_of("prepare_model_for_kbit_training", "prepare_model_for_int8_training")
    if facts.base in quantized and facts.trainer and not prepared:
        yield Finding(
            "warning",
            "quantization",
            script.where(facts.base),
            Message(
                "a quantized base is trained without `prepare_model_for_kbit_training`, which keeps norms in "
                "float32 and lets gradients reach the adapters with gradient checkpointing"
            ),
            Message("Call `prepare_model_for_kbit_training` before `get_peft_model`."),
        )
    for call in script.calls_of("merge_and_unload"):
        merged = script.read(call.receiver) if call.receiver is not None else None
        if isinstance(merged, Call) and merged.owner == "PeftModel":
            merged = script.value(merged, "model", 0)
        merged = facts.root(merged)
        if merged in quantized or (merged is None and quantized):
            yield Finding(
                "warning",
                "merge",
                script.where(call),
                Message(
                    "the adapter is merged into a quantized base: the sum is rounded to the few values that "
                    "the base can represent, so the merged model answers worse than the base with the adapter"
                ),
                Message(
                    "Load the base in float32 or bfloat16, and merge the adapter into that; "
                    "`loraloom merge` verifies the result."
                ),
            )


def _is_quantized(facts: Facts, call: Call) -> bool:
    if any(facts.script.value(call, name) is True for name in ("load_in_8bit", "load_in_4bit")):
        return True
    return facts.script.value(call, "quantization_config") not in (MISSING, None)
