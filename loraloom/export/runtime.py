"""The proof of an export in a new process: the rows for a runtime, and its outputs.

python -m loraloom.export.runtime MODULE FOLDER PROOF

PROOF/rows.json     the rows, and the base's folder or hub name
PROOF/outputs.json  what MODULE's `run` returned for them

MODULE is a module in this folder that imports the format's own runtime and little from LoRALoom besides this
file; the modules for transformers and PEFT share `transformers_answers` and `fresh_process`. So any user of
the runtime would get the same result. Neither torch nor transformers is imported here, because not every
runtime needs them.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

ROWS, OUTPUTS = "rows.json", "outputs.json"
# Positions processed at once, unless one target is longer: 128 positions of 250,112 logits take 128 MB.
ROWS_AT_ONCE, POSITIONS_AT_ONCE = 8, 128
# Rows answered at once. A step reads the whole head, 0.5 GB with d_model 512, for one row as for 32; the
# keys and values of 4,096 positions take 0.8 GB in mt0-large.
ANSWERS_AT_ONCE, ANSWER_POSITIONS_AT_ONCE = 32, 4096


@dataclass(frozen=True)
class ProofRows:
    """Rows on which the outputs of base + adapter and of the export are compared.

    Args:
        sources, targets: token ids, with EOS and language codes where the base uses them.
        texts: texts of the sources, if any.
        pad_token_id, eos_token_id: special tokens of the model.
        start_token_ids: the decoder's first token for each row.
        forced_token_ids: the first token of each row's answer; None if the model chooses it.
        max_new_tokens: maximum length of a greedy answer.
        attention: the attention implementation that transformers must use.
        text_at: number of tokens before the text of each source; None if sources have no language code.
        frame: tokens that the folder's own tokenizer must put around every text, if a multilingual base was
            trained with one source language; otherwise None.
        decoding: non-greedy settings of `generation`, to be tested as well; may be empty.
    """

    sources: Sequence[Sequence[int]]
    targets: Sequence[Sequence[int]]
    texts: Sequence[str]
    pad_token_id: int
    eos_token_id: int
    start_token_ids: Sequence[int]
    forced_token_ids: Sequence[int | None]
    max_new_tokens: int
    attention: str = "sdpa"
    text_at: int | None = None
    frame: Sequence[int] | None = None
    decoding: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class RuntimeOutputs:
    """The outputs of a runtime.

    Args:
        answers: greedy answers, without the start token and EOS but with a forced first token; at most
            `rows.max_new_tokens` tokens each.
        runtime: name and version of the runtime, as a user would install it: `ctranslate2 4.8.5`.
        computed_in: number format, such as `float32` or `int8_float32`; "" if the runtime does not state it.
        log_probabilities: one per token of each target, EOS included, in nats; None if the runtime
            gives none.
        encodings: token ids that the folder's own tokenizer gives for each of `rows.texts`; None if the
            runtime has no tokenizer of its own.
        decoded: answers generated with `rows.decoding`, in the form of `answers`; None if there are none.
    """

    answers: list[list[int]]
    runtime: str
    computed_in: str = ""
    log_probabilities: list[list[float]] | None = None
    encodings: list[list[int]] | None = None
    decoded: list[list[int]] | None = None


def name_and_version(module: ModuleType) -> str:
    """Return a program's name and version, as a user would install it: `ctranslate2 4.8.5`."""
    return " ".join((module.__name__, module.__version__))


def parts_of(rows: ProofRows) -> Iterator[ProofRows]:
    """Yield the rows in parts, each of which fits in memory with the logits of its targets."""
    start = 0
    while start < len(rows.sources):
        end, longest = start, 0
        for target in rows.targets[start : start + ROWS_AT_ONCE]:
            longest = max(longest, len(target))
            if end > start and longest * (end + 1 - start) > POSITIONS_AT_ONCE:
                break
            end += 1
        yield _part(rows, slice(start, end))
        start = end


def answered_at_once(rows: ProofRows, num_beams: int = 1) -> int:
    """Return how many rows to answer in one batch: fewer with beams, as each has its own keys and values."""
    longest = max((len(source) for source in rows.sources), default=0) + rows.max_new_tokens
    return max(1, min(ANSWERS_AT_ONCE, ANSWER_POSITIONS_AT_ONCE // longest) // num_beams)


def answered_together(rows: ProofRows, num_beams: int = 1) -> Iterator[ProofRows]:
    """Yield the rows in parts, each of which is answered in one batch."""
    step = answered_at_once(rows, num_beams)
    for start in range(0, len(rows.sources), step):
        yield _part(rows, slice(start, start + step))


def each_alone(rows: ProofRows) -> Iterator[ProofRows]:
    """Yield the rows one at a time."""
    for number in range(len(rows.sources)):
        yield _part(rows, slice(number, number + 1))


def _part(rows: ProofRows, own: slice) -> ProofRows:
    return replace(
        rows,
        sources=rows.sources[own],
        targets=rows.targets[own],
        texts=rows.texts[own],
        start_token_ids=rows.start_token_ids[own],
        forced_token_ids=rows.forced_token_ids[own],
    )


def decoded_by(rows: ProofRows, answers: Callable[[ProofRows], list[list[int]]]) -> list[list[int]] | None:
    """Answer rows with the settings in `rows.decoding`, part by part; return None if it is empty."""
    if not rows.decoding:
        return None
    parts = answered_together(rows, int(rows.decoding.get("num_beams", 1)))
    return [each for part in parts for each in answers(part)]


def spans(length: int) -> Iterator[slice]:
    """Yield slices of a target's positions, each small enough that its logits fit in memory."""
    for start in range(0, length, POSITIONS_AT_ONCE):
        yield slice(start, min(length, start + POSITIONS_AT_ONCE))


def log_probabilities_of(logits: Any, tokens: Sequence[int]) -> list[float]:
    """Return the log-probability of each token.

    Args:
        logits: numpy array [tokens, vocabulary].
        tokens: one for each position.
    """
    import numpy as np

    found = []
    for own, token in zip(logits, tokens, strict=True):
        exact = own.astype(np.float64)
        largest = exact.max()
        found.append(float(exact[token] - largest - np.log(np.exp(exact - largest).sum())))
    return found


def until(tokens: Sequence[int], end: int) -> list[int]:
    """Return the tokens before the first `end`."""
    found = list(tokens)
    return found[: found.index(end)] if end in found else found


def target_to_end(target: Sequence[int], end: int) -> list[int]:
    """Return a target through its first `end`, appended if missing; this drops the language code of mBART."""
    return [*until(target, end), end]


def ask(proof: Path, rows: ProofRows, base: str) -> None:
    """Write the file that tells the new process what to compute.

    Args:
        proof: the folder of the proof.
        rows: input for the model.
        base: folder or hub name of the base, for a format that can contain only the adapter.
    """
    (proof / ROWS).write_text(json.dumps({"rows": asdict(rows), "base": base}), encoding="utf-8")


def read_outputs(proof: Path) -> RuntimeOutputs:
    """Read the outputs of the new process."""
    return RuntimeOutputs(**json.loads((proof / OUTPUTS).read_text(encoding="utf-8")))


def main(module: str, folder: str, proof: str) -> None:
    """Run MODULE on the rows, and write its outputs."""
    asked = json.loads((Path(proof) / ROWS).read_text(encoding="utf-8"))
    runtime = importlib.import_module(module)
    outputs: RuntimeOutputs = runtime.run(Path(folder), ProofRows(**asked["rows"]), asked["base"])
    (Path(proof) / OUTPUTS).write_text(json.dumps(asdict(outputs)), encoding="utf-8")


if __name__ == "__main__":
    # This file is `__main__` here; its classes must be those that the runtimes import.
    importlib.import_module("loraloom.export.runtime").main(*sys.argv[1:])
