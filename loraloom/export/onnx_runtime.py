"""ONNX's part of the proof: onnxruntime runs the exported files, without torch or transformers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from loraloom.export.runtime import (
    ProofRows,
    RuntimeOutputs,
    answered_together,
    log_probabilities_of,
    name_and_version,
    spans,
    target_to_end,
    until,
)

PAST, PRESENT = "past_key_values.", "present."


def run(folder: Path, rows: ProofRows, base: str) -> RuntimeOutputs:
    """Load the files as any user would, and compute answers and log-probabilities."""
    (encoder,) = (folder / "onnx").glob("encoder_model*.onnx")
    (decoder,) = (folder / "onnx").glob("decoder_model_merged*.onnx")
    sessions = _Sessions(_session(encoder), _session(decoder))
    answers: list[list[int]] = []
    log_probabilities: list[list[float]] = []
    for part in answered_together(rows):
        states, mask = sessions.encode(_padded(part.sources, part.pad_token_id))
        answers += sessions.answers(states, mask, part)
        for number, target in enumerate(part.targets):
            known = target_to_end(target, rows.eos_token_id)
            own = slice(number, number + 1)
            log_probabilities.append(
                sessions.score(states[own], mask[own], part.start_token_ids[number], known)
            )
    return RuntimeOutputs(
        answers=answers,
        runtime=name_and_version(onnxruntime),
        log_probabilities=log_probabilities,
    )


def _session(file: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # by default as many as the machine has, whatever this process may use
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


class _Sessions:
    """The onnxruntime sessions of encoder and decoder."""

    def __init__(self, encoder: onnxruntime.InferenceSession, decoder: onnxruntime.InferenceSession) -> None:
        self._encoder, self._decoder = encoder, decoder
        self._caches = [i for i in decoder.get_inputs() if i.name.startswith(PAST)]
        self._outputs = [output.name for output in decoder.get_outputs()]

    def encode(self, padded: tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]) -> tuple[Any, Any]:
        input_ids, mask = padded
        (states,) = self._encoder.run(None, {"input_ids": input_ids, "attention_mask": mask})
        return states, mask

    def answers(self, states: Any, mask: Any, rows: ProofRows) -> list[list[int]]:
        """Generate greedy answers with caches, without the start token and EOS."""
        tokens = [[start] for start in rows.start_token_ids]
        caches: dict[str, Any] | None = None
        ended = [False] * len(tokens)
        for step in range(rows.max_new_tokens):
            newest = np.array([[own[-1]] for own in tokens], dtype=np.int64)
            logits, caches = self._decode(newest, states, mask, caches)
            for number, own in enumerate(tokens):
                first = rows.forced_token_ids[number] if step == 0 else None
                own.append(int(logits[number, -1].argmax()) if first is None else first)
                ended[number] |= own[-1] == rows.eos_token_id
            if all(ended):
                break
        return [until(own[1:], rows.eos_token_id)[: rows.max_new_tokens] for own in tokens]

    def score(self, states: Any, mask: Any, start: int, target: Sequence[int]) -> list[float]:
        """Return the log-probability of each token of a target."""
        inputs = np.array([[start, *target[:-1]]], dtype=np.int64)
        found: list[float] = []
        caches: dict[str, Any] | None = None
        for own in spans(len(target)):
            logits, caches = self._decode(inputs[:, own], states, mask, caches)
            found += log_probabilities_of(logits[0], target[own])
        return found

    def _decode(
        self, tokens: Any, states: Any, mask: Any, caches: dict[str, Any] | None
    ) -> tuple[Any, dict[str, Any]]:
        given = caches or {
            i.name: np.zeros((len(tokens), i.shape[1], 0, 1), dtype=np.float32) for i in self._caches
        }
        outputs = self._decoder.run(
            None,
            {
                "input_ids": tokens,
                "encoder_attention_mask": mask,
                "encoder_hidden_states": states,
                "use_cache_branch": np.array([caches is not None]),
                **given,
            },
        )
        named = dict(zip(self._outputs, outputs, strict=True))
        logits = named.pop("logits")
        return logits, {name.replace(PRESENT, PAST): value for name, value in named.items()}


def _padded(
    sequences: Sequence[Sequence[int]], pad: int
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    width = max(len(ids) for ids in sequences)
    input_ids = np.array([[*ids, *[pad] * (width - len(ids))] for ids in sequences], dtype=np.int64)
    mask = np.array([[1] * len(ids) + [0] * (width - len(ids)) for ids in sequences], dtype=np.int64)
    return input_ids, mask
