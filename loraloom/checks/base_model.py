"""Properties of the base that affect training and merging: head, dtype, tokens."""

from __future__ import annotations

from typing import Any

import torch

from loraloom.base.loading import Base
from loraloom.checks.finding import Finding, Level
from loraloom.checks.gate import Gate
from loraloom.text.message import Message


def check_head(gate: Gate) -> list[Finding]:
    """Report whether the output head and the embedding share one weight, and what this implies."""
    base = gate.base
    scale = base.family.output_scale(base.model.config)
    scaled = (
        Message("; hidden states are scaled by {scale:.3g} before it", scale=scale) if scale != 1.0 else ""
    )
    if base.head_is_tied:
        message: str = Message(
            "tied: the embedding is also the output head{scaled}. Adapters do not change it", scaled=scaled
        )
        return [Finding("ok", "head", "base", message)]
    message = Message(
        "not tied: the output head has its own weights{scaled}. The merged model's config will "
        "say so, because tools that assume a tied head scale the logits wrongly",
        scaled=scaled,
    )
    return [Finding("ok", "head", "base", message)]


def check_precision(gate: Gate) -> list[Finding]:
    """Report the precision in which the base computes, and which values have a higher precision."""
    if gate.base.model.dtype == torch.bfloat16:
        message: str = Message(
            "the base computes in bfloat16, which rounds to 1 part in 256; adapters, their "
            "gradients and AdamW's moments are float32, so a small learning rate is not "
            "rounded away"
        )
    else:
        message = Message("base, adapters and AdamW's moments are float32")
    return [Finding("ok", "dtype", "base", message)]


def check_tokenizer(gate: Gate) -> list[Finding]:
    """Check that every token has an embedding and a row of the output head."""
    base = gate.base
    num_embeddings = base.model.get_input_embeddings().weight.shape[0]
    num_outputs = base.head.weight.shape[0]
    num_rows = min(num_embeddings, num_outputs)
    ids = base.tokenizer.get_vocab().values()
    if max(ids) >= num_rows:
        beyond = sum(token >= num_rows for token in ids)
        what = Message("embeddings") if num_rows == num_embeddings else Message("rows of the output head")
        message: str = Message(
            "{beyond:,} of the tokenizer's {num_ids:,} tokens are beyond the {num_rows:,} {what}",
            beyond=beyond,
            num_ids=len(ids),
            num_rows=num_rows,
            what=what,
        )
        return [
            Finding(
                "error",
                "tokenizer",
                "base",
                message,
                Message("Use the tokenizer that belongs to this model."),
            )
        ]
    message = Message(
        "{num_ids:,} tokens, {num_embeddings:,} embeddings", num_ids=len(ids), num_embeddings=num_embeddings
    )
    if spare := num_embeddings - len(ids):
        message = Message(
            "{message}; {spare:,} embeddings belong to no token, which is harmless",
            spare=spare,
            message=message,
        )
    return [
        *(Finding("note", "tokenizer", "base", note) for note in base.notes),
        Finding("ok", "tokenizer", "base", message),
    ]


def check_special_tokens(gate: Gate) -> list[Finding]:
    """Check that padding, end and start tokens have embeddings, and that all files agree about them."""
    base = gate.base
    findings = [*_outside(base), *_contradictions(base)]
    if base.pad_token_id == base.eos_token_id:
        findings.append(
            _special(
                "warning",
                Message(
                    "padding and end of answer are the same token, {named}; LoRALoom distinguishes them "
                    "by position, but a script that masks this token in the labels does not teach the "
                    "model to stop",
                    named=_named(base, base.eos_token_id),
                ),
                Message("Use a tokenizer with a separate padding token if you train elsewhere."),
            )
        )
    usual = getattr(base.tokenizer, f"{base.family.start}_token_id")
    if usual is not None and base.start_token_id != usual:
        start, wanted = (_named(base, token) for token in (base.start_token_id, usual))
        message = Message(
            "answers begin with {start}, but models of this family were trained to begin with {wanted}",
            start=start,
            wanted=wanted,
        )
        findings.append(_special("note", message, Message("Check decoder_start_token_id in config.json.")))
    if base.family.ends_sources and not _ends_texts(base):
        message = Message(
            "the tokenizer does not end texts with EOS; LoRALoom adds it, but other programs may not"
        )
        findings.append(
            _special("note", message, Message("Add EOS to your prompts if you use the model elsewhere."))
        )
    if findings:
        return findings
    pad, eos, start = (_named(base, t) for t in (base.pad_token_id, base.eos_token_id, base.start_token_id))
    return [
        _special(
            "ok",
            Message("padding {pad}, end {eos}; answers begin with {start}", pad=pad, eos=eos, start=start),
        )
    ]


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
    message = Message(
        "these token ids are outside of the {num_rows:,} embeddings: {wrong}",
        num_rows=num_rows,
        wrong=", ".join(wrong),
    )
    return [_special("error", message, Message("Correct the ids in config.json and tokenizer_config.json."))]


def _contradictions(base: Base) -> list[Finding]:
    """Find configs whose end or padding token differs from the tokenizer's, which is used in training."""
    findings = []
    for file, config in (
        ("config.json", base.model.config),
        ("generation_config.json", base.model.generation_config),
    ):
        for key, own in (("eos_token_id", base.eos_token_id), ("pad_token_id", base.pad_token_id)):
            stated = _ids(getattr(config, key, None))
            if stated and own not in stated:
                does = (
                    Message("not stop where it is trained to")
                    if key == "eos_token_id"
                    else Message("pad with another token")
                )
                message = Message(
                    "{file} sets {key} to {stated}, but the tokenizer sets it to {own}: a merged "
                    "model would {does}",
                    file=file,
                    key=key,
                    stated=stated[0],
                    own=own,
                    does=does,
                )
                findings.append(
                    _special(
                        "warning",
                        message,
                        Message("Set {key} to {own} in {file} of the base.", key=key, own=own, file=file),
                    )
                )
    return findings


def _ids(value: Any) -> list[int]:
    """Convert an entry of a config (one id, several, or None) to a list of ids."""
    if value is None:
        return []
    return [int(each) for each in value] if isinstance(value, list | tuple) else [int(value)]


def _ends_texts(base: Base) -> bool:
    ids = base.tokenizer("a")["input_ids"]
    behind = 1 if base.languages is None else 2  # a language's code may follow EOS
    return base.eos_token_id in ids[-behind:]
