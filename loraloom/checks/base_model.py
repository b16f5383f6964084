"""What a base is, where that decides what training and merging come to: its head, dtype, tokens."""

from __future__ import annotations

from typing import Any

import torch

from loraloom.base.loading import Base
from loraloom.checks.finding import Finding, Level
from loraloom.checks.gate import Gate


def check_head(gate: Gate) -> list[Finding]:
    """Whether output head and embedding are one tensor, read from the weights, and what follows."""
    base = gate.base
    scale = base.family.output_scale(base.model.config)
    scaled = f"; states are scaled by {scale:.3g} before it" if scale != 1.0 else ""
    if base.head_is_tied:
        message = f"tied: the embedding is the output head too{scaled}. An adapter changes neither"
        return [Finding("ok", "head", "base", message)]
    message = (
        f"not tied: the output head has weights of its own{scaled}. The merged model's config will say so, "
        "because tools that take it for tied scale its logits wrongly"
    )
    return [Finding("ok", "head", "base", message)]


def check_precision(gate: Gate) -> list[Finding]:
    """In which precision the base computes, and what keeps more."""
    if gate.base.model.dtype == torch.bfloat16:
        message = (
            "the base computes in bfloat16, which rounds to 1 part in 256; adapters, their gradients and "
            "AdamW's moments are float32, so a small learning rate is not rounded away"
        )
    else:
        message = "base, adapters and AdamW's moments are float32"
    return [Finding("ok", "dtype", "base", message)]


def check_tokenizer(gate: Gate) -> list[Finding]:
    """Every token has an embedding and a row of the output head."""
    base = gate.base
    num_embeddings = base.model.get_input_embeddings().weight.shape[0]
    num_outputs = base.head.weight.shape[0]
    num_rows = min(num_embeddings, num_outputs)
    ids = base.tokenizer.get_vocab().values()
    if max(ids) >= num_rows:
        beyond = sum(token >= num_rows for token in ids)
        what = "embeddings" if num_rows == num_embeddings else "rows of the output head"
        message = f"{beyond:,} of its {len(ids):,} tokens are beyond the {num_rows:,} {what}"
        return [Finding("error", "tokenizer", "base", message, "Use the tokenizer of this very model.")]
    message = f"{len(ids):,} tokens, {num_embeddings:,} embeddings"
    if spare := num_embeddings - len(ids):
        message += f"; {spare:,} stand for no token, which does no harm"
    return [
        *(Finding("note", "tokenizer", "base", note) for note in base.notes),
        Finding("ok", "tokenizer", "base", message),
    ]


def check_special_tokens(gate: Gate) -> list[Finding]:
    """Padding, end and start: there, within the vocabulary, and the same for everyone who reads the model."""
    base = gate.base
    findings = [*_outside(base), *_contradictions(base)]
    if base.pad_token_id == base.eos_token_id:
        findings.append(
            _special(
                "warning",
                f"padding and end of answer are one token, {_named(base, base.eos_token_id)}; training "
                "tells them apart by place, but scripts that mask labels by the padding's id unlearn to end",
                "Use a tokenizer with a padding token of its own where you train elsewhere.",
            )
        )
    usual = base.eos_token_id if base.family.start == "eos" else base.pad_token_id
    if base.start_token_id != usual:
        start, wanted = (_named(base, token) for token in (base.start_token_id, usual))
        message = f"answers begin with {start}; models of this family were trained to begin with {wanted}"
        findings.append(_special("note", message, "Check decoder_start_token_id in config.json."))
    if not _ends_texts(base):
        message = "the tokenizer does not end a text with EOS; LoRALoom adds it, other programs may not"
        findings.append(
            _special("note", message, "Add EOS to your prompts where you use the model elsewhere.")
        )
    if findings:
        return findings
    pad, eos, start = (_named(base, t) for t in (base.pad_token_id, base.eos_token_id, base.start_token_id))
    return [_special("ok", f"padding {pad}, end {eos}; answers begin with {start}")]


def _special(level: Level, message: str, fix: str = "") -> Finding:
    return Finding(level, "special-tokens", "base", message, fix)


def _named(base: Base, token: int) -> str:
    return f"{base.tokenizer.convert_ids_to_tokens(token)} ({token})"


def _outside(base: Base) -> list[Finding]:
    num_rows = base.model.get_input_embeddings().weight.shape[0]
    ids = {"padding": base.pad_token_id, "end": base.eos_token_id, "start": base.start_token_id}
    wrong = [f"{name} {token}" for name, token in ids.items() if not 0 <= token < num_rows]
    if not wrong:
        return []
    message = f"beyond the {num_rows:,} embeddings: {', '.join(wrong)}"
    return [_special("error", message, "Mend the ids in config.json and tokenizer_config.json.")]


def _contradictions(base: Base) -> list[Finding]:
    """Where a config names another end or padding than the tokenizer, which is the one that we train with."""
    findings = []
    for file, config in (
        ("config.json", base.model.config),
        ("generation_config.json", base.model.generation_config),
    ):
        for key, own in (("eos_token_id", base.eos_token_id), ("pad_token_id", base.pad_token_id)):
            said = _ids(getattr(config, key, None))
            if said and own not in said:
                does = (
                    "not stop where training teaches it to" if key == "eos_token_id" else "pad with another"
                )
                message = f"{file} says {key} {said[0]}, the tokenizer {own}: a merged model would {does}"
                findings.append(_special("warning", message, f"Set {key}: {own} in {file} of the base."))
    return findings


def _ids(value: Any) -> list[int]:
    """A config gives one id, several, or none."""
    if value is None:
        return []
    return [int(each) for each in value] if isinstance(value, list | tuple) else [int(value)]


def _ends_texts(base: Base) -> bool:
    ids = base.tokenizer("a")["input_ids"]
    return bool(ids) and ids[-1] == base.eos_token_id
