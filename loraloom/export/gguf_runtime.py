"""GGUF's part of the proof: llama.cpp runs an exported file, through llama-cpp-python.

llama-cpp-python's class `Llama` cannot run an encoder, so this module calls the functions of llama.h.
"""

from __future__ import annotations

import ctypes
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np

from loraloom.export.gguf.gguf_names import ADAPTER, MODEL
from loraloom.export.runtime import (
    ProofRows,
    RuntimeOutputs,
    log_probabilities_of,
    spans,
    target_to_end,
    until,
)

GGML_F32 = 0
LARGEST_TEXT = 4


def run(folder: Path, rows: ProofRows, base: str) -> RuntimeOutputs:
    """Load the file with llama.cpp, and compute answers and log-probabilities.

    Args:
        folder: folder with model.gguf, or adapter.gguf.
        rows: input for the model.
        base: folder or hub name of the base, for an adapter alone; it is first written as a GGUF file.
    """
    adapter = folder / ADAPTER
    if adapter.is_file():
        from loraloom.export.gguf.base_file import write_base

        with tempfile.TemporaryDirectory(dir=folder.parent) as beside:
            write_base(base, Path(beside) / MODEL)
            return _run(Path(beside) / MODEL, adapter, rows)
    return _run(folder / MODEL, None, rows)


def _run(model: Path, adapter: Path | None, rows: ProofRows) -> RuntimeOutputs:
    longest = max(len(own) for own in (*rows.sources, *rows.targets))
    size = max(longest, rows.max_new_tokens) + 1
    with _LlamaCpp.loaded(model, adapter, size) as own:
        answers, log_probabilities = [], []
        for number, source in enumerate(rows.sources):
            start, forced = rows.start_token_ids[number], rows.forced_token_ids[number]
            answers.append(own.answer(source, start, forced, rows))
            known = target_to_end(rows.targets[number], rows.eos_token_id)
            log_probabilities.append(own.score(source, start, known))
        encodings = [own.encode_text(text) for text in rows.texts]
    return RuntimeOutputs(
        answers=answers,
        runtime=" ".join(("llama-cpp-python", llama_cpp.__version__)),
        log_probabilities=log_probabilities,
        encodings=encodings,
    )


class _LlamaCpp:
    """A model in llama.cpp, with a context that processes one row at a time."""

    def __init__(self, model: Any, context: Any) -> None:
        self._model, self._context = model, context
        self._vocabulary = llama_cpp.llama_model_get_vocab(model)
        self._num_tokens = llama_cpp.llama_vocab_n_tokens(self._vocabulary)

    @classmethod
    @contextmanager
    def loaded(cls, model: Path, adapter: Path | None, size: int) -> Iterator[_LlamaCpp]:
        """Load a file with settings that avoid further rounding in llama.cpp, except by GELU's float16 table.

        Raises:
            RuntimeError: llama.cpp cannot load or run the file.
        """
        llama_cpp.llama_backend_init()
        llama_cpp.llama_log_set(_ignore_log, ctypes.c_void_p(0))
        opened = llama_cpp.llama_model_load_from_file(
            str(model).encode(), llama_cpp.llama_model_default_params()
        )
        if not opened:
            raise RuntimeError(f"llama.cpp cannot load {model.name}")
        options = llama_cpp.llama_context_default_params()
        options.n_ctx = options.n_batch = options.n_ubatch = size
        options.n_threads = options.n_threads_batch = 1
        options.type_k = options.type_v = GGML_F32
        # Flash attention would round keys and values of cross-attention to float16.
        options.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
        context = llama_cpp.llama_init_from_model(opened, options)
        if not context:
            raise RuntimeError(f"llama.cpp cannot run {model.name}")
        if adapter is not None:
            lora = llama_cpp.llama_adapter_lora_init(opened, str(adapter).encode())
            if not lora:
                raise RuntimeError(f"llama.cpp cannot load {adapter.name}")
            one = (llama_cpp.llama_adapter_lora_p_ctypes * 1)(lora)
            llama_cpp.llama_set_adapters_lora(context, one, 1, (ctypes.c_float * 1)(1.0))
        try:
            yield cls(opened, context)
        finally:
            llama_cpp.llama_free(context)
            llama_cpp.llama_model_free(opened)

    def encode_text(self, text: str) -> list[int]:
        """Return the tokens of a text, with EOS."""
        content = text.encode()
        room = LARGEST_TEXT * (len(content) + LARGEST_TEXT)
        tokens = (llama_cpp.llama_token * room)()
        count = llama_cpp.llama_tokenize(self._vocabulary, content, len(content), tokens, room, True, True)
        return list(tokens[:count])

    def answer(self, source: Sequence[int], start: int, forced: int | None, rows: ProofRows) -> list[int]:
        """Generate a greedy answer, without the start token and EOS."""
        self._encode(source)
        tokens: list[int] = []
        for step in range(rows.max_new_tokens):
            logits = self._decode([tokens[-1] if tokens else start], step)
            tokens.append(forced if step == 0 and forced is not None else int(logits[-1].argmax()))
            if tokens[-1] == rows.eos_token_id:
                break
        return until(tokens, rows.eos_token_id)

    def score(self, source: Sequence[int], start: int, target: Sequence[int]) -> list[float]:
        """Return the log-probability of each token of a target."""
        self._encode(source)
        inputs = [start, *target[:-1]]
        found: list[float] = []
        for own in spans(len(target)):
            found += log_probabilities_of(self._decode(inputs[own], own.start), target[own])
        return found

    def _encode(self, source: Sequence[int]) -> None:
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self._context), True)
        with _batch(source, 0) as batch:
            if llama_cpp.llama_encode(self._context, batch) != 0:
                raise RuntimeError("llama.cpp's encoder failed")

    def _decode(self, tokens: Sequence[int], position: int) -> np.ndarray[Any, Any]:
        """Return logits, float32 [tokens, vocabulary]."""
        with _batch(tokens, position) as batch:
            if llama_cpp.llama_decode(self._context, batch) != 0:
                raise RuntimeError("llama.cpp's decoder failed")
        found = [llama_cpp.llama_get_logits_ith(self._context, number) for number in range(len(tokens))]
        return np.stack([np.ctypeslib.as_array(own, shape=(self._num_tokens,)).copy() for own in found])


@contextmanager
def _batch(tokens: Sequence[int], position: int) -> Iterator[Any]:
    """Yield a batch that requests logits for all tokens of one sequence, the first at `position`."""
    batch = llama_cpp.llama_batch_init(len(tokens), 0, 1)
    batch.n_tokens = len(tokens)
    for number, token in enumerate(tokens):
        batch.token[number] = token
        batch.pos[number] = position + number
        batch.n_seq_id[number] = 1
        batch.seq_id[number][0] = 0
        batch.logits[number] = True
    try:
        yield batch
    finally:
        llama_cpp.llama_batch_free(batch)


@llama_cpp.llama_log_callback  # type: ignore[untyped-decorator]
def _ignore_log(level: int, text: bytes, user_data: Any) -> None:
    """Discard a line of llama.cpp's log, to keep it out of the proof's log."""
