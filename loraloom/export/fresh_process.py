"""Final test of a merged folder in a new process, with nothing but transformers.

python -m loraloom.export.fresh_process FOLDER PROOF

PROOF/question.json          the rows, and for each dtype the answers expected when the folder is loaded in it
PROOF/DTYPE/0.safetensors …  the logits expected for each row when the folder is loaded in DTYPE
PROOF/measured.json          how far the folder's outputs differ from the expected outputs

From LoRALoom this module imports only the type of the rows and helpers for rows, so any user of transformers
would get the same result.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import (
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
)

from loraloom.export.runtime import ProofRows, each_alone, until

QUESTION, MEASURED, LOGITS = "question.json", "measured.json", "logits"
GREEDY = {"do_sample": False, "num_beams": 1, "repetition_penalty": 1.0, "no_repeat_ngram_size": 0}


@dataclass(frozen=True)
class StoredOutputs:
    """Outputs of a model for the rows.

    Args:
        folder: folder with a file for each row, which contains the logits at every position of the row's
            target, float32 [tokens, vocabulary]. With a vocabulary of 250,112 tokens, the logits of all rows
            would take as much memory as a small model.
        answers: greedy answers, without the start token and EOS.
    """

    folder: Path
    answers: list[list[int]]

    def logits(self, row: int) -> Tensor:
        """Read the logits of one row."""
        logits: Tensor = load_file(logits_file(self.folder, row))[LOGITS]
        return logits


def logits_file(folder: Path, row: int) -> Path:
    """Return the file of a row's logits."""
    return folder / f"{row}.safetensors"


@dataclass(frozen=True)
class ModelMeasurement:
    """Difference between the outputs of a model and those expected.

    Args:
        max_difference: largest difference in any logit.
        largest_logit: largest absolute value of the expected logits.
        num_answers, num_same_answers: number of greedy answers, and how many of them are equal.
        largest_gap: how much this model prefers its own token, in logits, where an answer first deviates from
            the expected one: the maximum over the answers. A gap within the rounding of logits is a tie.
        flag_matters: whether `config.tie_word_embeddings` must be corrected after loading, because
            this version of transformers loads it incorrectly and scales the logits by it.
        num_same_encodings: number of texts whose token ids are the same as in the run.
    """

    max_difference: float
    largest_logit: float
    num_answers: int
    num_same_answers: int
    largest_gap: float
    flag_matters: bool = False
    num_same_encodings: int = 0


@torch.no_grad()
def store_outputs(
    model: Any,
    rows: ProofRows,
    folder: Path,
    during: Callable[[int], AbstractContextManager[object]] = lambda num_rows: nullcontext(),
    answers: list[list[int]] | None = None,
) -> StoredOutputs:
    """Compute greedy answers and the targets' logits with transformers, and store the logits.

    Args:
        model: a model in eval mode.
        rows: input for the model.
        folder: folder to create.
        during: called with a number of rows; returns a context manager for passes over that many rows.
        answers: the greedy answers, if they are already known.

    Raises:
        OSError, SafetensorError: a file could not be written.
    """
    folder.mkdir()
    if answers is None:
        with during(len(rows.sources)):
            answers = greedy_answers(model, rows)
    for number, row in enumerate(each_alone(rows)):
        with during(1):
            logits = teacher_forced(model, row)
        save_file({LOGITS: logits.contiguous()}, logits_file(folder, number))
    return StoredOutputs(folder, answers)


@torch.no_grad()
def greedy_answers(model: Any, rows: ProofRows) -> list[list[int]]:
    """Generate greedy answers without the start token and EOS, ignoring the model's generation settings."""
    return generated_answers(model, rows, {})


@torch.no_grad()
def generated_answers(model: Any, rows: ProofRows, decoding: Mapping[str, float]) -> list[list[int]]:
    """Generate answers, greedily unless `decoding` says otherwise, without the start token and EOS."""
    input_ids, mask = _padded(rows.sources, rows.pad_token_id)
    starts = list(rows.start_token_ids)
    generated = model.generate(
        input_ids=input_ids,
        attention_mask=mask,
        generation_config=GenerationConfig(
            **{**GREEDY, **decoding},
            max_new_tokens=rows.max_new_tokens,
            eos_token_id=rows.eos_token_id,
            pad_token_id=rows.pad_token_id,
            decoder_start_token_id=starts[0] if len(set(starts)) == 1 else starts,
        ),
        logits_processor=LogitsProcessorList([ForcedTokens(rows.forced_token_ids)]),
    )
    return [until(row, rows.eos_token_id) for row in generated[:, 1:].tolist()]


class ForcedTokens(LogitsProcessor):  # type: ignore[misc]
    """A logits processor that forces the first token of each row's answer.

    Args:
        tokens: the token to force for each row; None if the model chooses the token.
    """

    def __init__(self, tokens: Sequence[int | None]) -> None:
        self._tokens = tokens

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Return scores [rows, vocabulary] that allow only the forced token as the first of an answer."""
        if input_ids.shape[1] == 1:
            for row, token in enumerate(self._tokens):
                if token is not None:
                    scores[row] = -torch.inf
                    scores[row, token] = 0.0
        return scores


@torch.no_grad()
def teacher_forced(model: Any, rows: ProofRows) -> Tensor:
    """Compute logits at every position of the targets, float32 [tokens of all targets, vocabulary]."""
    input_ids, mask = _padded(rows.sources, rows.pad_token_id)
    begun = zip(rows.start_token_ids, rows.targets, strict=True)
    inputs, _ = _padded([[start, *target[:-1]] for start, target in begun], rows.pad_token_id)
    logits = model(input_ids=input_ids, attention_mask=mask, decoder_input_ids=inputs, use_cache=False).logits
    # Moved together in place: with a vocabulary of 250,112, a copy is a twentieth of a large model.
    logits = logits.float()
    together: Tensor = logits.flatten(0, 1)
    end = 0
    for own, target in zip(logits, rows.targets, strict=True):
        together[end : end + len(target)] = own[: len(target)].clone()
        end += len(target)
    return together[:end]


def _padded(sequences: Sequence[Sequence[int]], pad: int) -> tuple[Tensor, Tensor]:
    width = max(len(ids) for ids in sequences)
    input_ids = torch.tensor([[*ids, *[pad] * (width - len(ids))] for ids in sequences])
    mask = torch.tensor([[1] * len(ids) + [0] * (width - len(ids)) for ids in sequences])
    return input_ids, mask


def difference(model: Any, rows: ProofRows, expected: StoredOutputs) -> ModelMeasurement:
    """Run a model, and compare its outputs with those expected."""
    pairs = list(zip(greedy_answers(model, rows), expected.answers, strict=True))
    differences, sizes = [], []
    for number, row in enumerate(each_alone(rows)):
        wanted = expected.logits(number)
        differences.append((teacher_forced(model, row) - wanted).abs().max())
        sizes.append(wanted.abs().max())
    gaps = [
        _gap(model, rows, number, own, wanted) for number, (own, wanted) in enumerate(pairs) if own != wanted
    ]
    return ModelMeasurement(
        max_difference=float(torch.stack(differences).max()),  # NaN if there is one
        largest_logit=float(torch.stack(sizes).max()),
        num_answers=len(pairs),
        num_same_answers=sum(own == wanted for own, wanted in pairs),
        largest_gap=max(gaps, default=0.0),
    )


@torch.no_grad()
def _gap(model: Any, rows: ProofRows, number: int, own: Sequence[int], wanted: Sequence[int]) -> float:
    """Compute how much the model prefers its own token, in logits, where the two answers to a row diverge."""
    source = rows.sources[number]
    own, wanted = [*own, rows.eos_token_id], [*wanted, rows.eos_token_id]
    at = next(at for at, (a, b) in enumerate(zip(own, wanted, strict=False)) if a != b)
    prefix = torch.tensor([[rows.start_token_ids[number], *wanted[:at]]])
    logits = model(input_ids=torch.tensor([list(source)]), decoder_input_ids=prefix, use_cache=False).logits
    return float(logits[0, -1, own[at]] - logits[0, -1, wanted[at]])


def write_question(proof: Path, rows: ProofRows, expected: Mapping[str, StoredOutputs]) -> None:
    """Write the input of the new process: the rows, and the answers expected for each dtype.

    Args:
        proof: the folder of the proof.
        rows: input for the model.
        expected: dtype to load the folder in (`float32` or `auto`) -> expected outputs, whose logits are in
            the subfolder of `proof` that is named after the dtype.
    """
    question = {
        "rows": asdict(rows),
        "answers": {dtype: outputs.answers for dtype, outputs in expected.items()},
    }
    (proof / QUESTION).write_text(json.dumps(question), encoding="utf-8")


def measure(folder: Path, proof: Path) -> dict[str, ModelMeasurement]:
    """Load the folder as any user would, and return a measurement for each requested dtype."""
    question = json.loads((proof / QUESTION).read_text(encoding="utf-8"))
    rows = ProofRows(**question["rows"])
    return {
        dtype: _measure(folder, dtype, rows, StoredOutputs(proof / dtype, answers))
        for dtype, answers in question["answers"].items()
    }


def _measure(folder: Path, dtype: str, rows: ProofRows, expected: StoredOutputs) -> ModelMeasurement:
    model = AutoModelForSeq2SeqLM.from_pretrained(
        folder,
        dtype=dtype,
        use_safetensors=True,
        attn_implementation=rows.attention,
        trust_remote_code=False,
    )
    # transformers 5 loads `True` for the whole T5 family, and UMT5 then scales its logits.
    head, embedding = model.get_output_embeddings(), model.get_decoder().get_input_embeddings()
    is_tied = head.weight is embedding.weight
    matters = flag_matters(model, rows, is_tied)
    model.config.tie_word_embeddings = is_tied
    measured = difference(model, rows, expected)
    same_encodings = num_same_encodings(folder, rows)
    return replace(measured, flag_matters=matters, num_same_encodings=same_encodings)


def flag_matters(model: Any, rows: ProofRows, is_tied: bool) -> bool:
    """Return whether correcting `tie_word_embeddings` changes what the loaded model computes."""
    as_loaded = model.config.tie_word_embeddings
    for row in each_alone(rows):
        found = []
        for flag in (as_loaded, is_tied):
            model.config.tie_word_embeddings = flag
            found.append(teacher_forced(model, row))
        if not torch.equal(*found):
            return True
    return False


def num_same_encodings(folder: Path, rows: ProofRows) -> int:
    """Count the sources that the folder's tokenizer encodes as the run did, ignoring what was truncated."""
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    if rows.frame is not None and tokenizer("")["input_ids"] != list(rows.frame):
        return 0
    if rows.text_at is not None:
        bare = [tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"] for text in rows.texts]
        # The text is followed by EOS and, unless it comes first, the code.
        wanted = [source[rows.text_at : len(source) - 2 + rows.text_at] for source in rows.sources]
        return sum(own[: len(text)] == list(text) for own, text in zip(bare, wanted, strict=False))
    encoded = [tokenizer(text, verbose=False)["input_ids"] for text in rows.texts]
    pairs = zip(encoded, rows.sources, strict=False)
    return sum(own[: len(wanted) - 1] == list(wanted[:-1]) for own, wanted in pairs)


def main(folder: str, proof: str) -> None:
    """Measure how far the folder's outputs differ from the expected outputs, and write the result."""
    found = {dtype: asdict(measured) for dtype, measured in measure(Path(folder), Path(proof)).items()}
    (Path(proof) / MEASURED).write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
