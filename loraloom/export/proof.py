"""Proof that the merged folder equals base + adapter: its rows, tolerances and new process."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch

from loraloom.base.loading import Base
from loraloom.data.encoding import encode_texts
from loraloom.data.example import Example
from loraloom.data.languages.known import check_languages
from loraloom.data.splitting.split import Split
from loraloom.errors import ModelError
from loraloom.export import fresh_process, weight_hashes
from loraloom.export.fresh_process import ModelMeasurement
from loraloom.export.merged_languages import frame_of
from loraloom.export.runtime import ProofRows
from loraloom.recipe import Recipe
from loraloom.run.own_process import module_command, module_environment
from loraloom.text.message import Message
from loraloom.text.units import counted
from loraloom.training.signals import StopRequest

NUM_ROWS = 8
# Tokens per row: 8 × 32 positions of 250,112 logits take 256 MB.
TARGET_TOKENS, SOURCE_TOKENS, NEW_TOKENS = 32, 512, 64


class Limits(NamedTuple):
    """Maximum number of tokens in a proof's source, target and answer; None applies the recipe's limit."""

    source: int | None = SOURCE_TOKENS
    target: int | None = TARGET_TOKENS
    answer: int | None = NEW_TOKENS


OF_RECIPE = Limits(None, None, None)
# Relative to the largest logit. Base + adapter adds two products where the merged model has one; for the
# starter and a model of mt5-small's shape, `loraloom merge` printed 3e-6 and 1e-6.
TOLERANCE = 1e-4
SECONDS_BETWEEN_LOOKS = 0.1


@dataclass(frozen=True)
class Proof:
    """Results of the proof for a merged folder.

    Args:
        rows: description of the rows that the folder was tested on.
        num_merged: number of linears whose weights are now W + s·B·A.
        weight_error: largest error of a merged linear, in steps of float32 (2^-24 of its weights' norm).
        merging: base + adapter compared with the merged weights in float32.
        reload: the folder, loaded in float32 in a new process, compared with the rounded weights, or with
            base + adapter if nothing was rounded.
        rounding: base + adapter compared with the folder in the dtype it is saved in; None if that is
            float32.
        rounding_beside_update: ‖rounding‖ / ‖ΔW‖ over the merged linears; None if nothing was rounded.
    """

    rows: str
    num_merged: int
    weight_error: float
    merging: ModelMeasurement
    reload: ModelMeasurement
    rounding: ModelMeasurement | None
    rounding_beside_update: float | None


def choose_rows(split: Split | None, num_rows: int = NUM_ROWS) -> list[Example]:
    """Choose rows from the part that training uses least: test, eval, or else train; [] without a split."""
    return spread((split.test or split.eval or split.train) if split is not None else [], num_rows)


def spread(rows: Sequence[Example], num_rows: int) -> list[Example]:
    """Choose at most `num_rows` evenly spaced rows, starting with the first."""
    number = min(num_rows, len(rows))
    return [rows[place * len(rows) // number] for place in range(number)]


def proof_rows(
    base: Base,
    recipe: Recipe,
    examples: Sequence[Example],
    pairs: Sequence[tuple[str, str]] = (),
    limits: Limits = Limits(),  # noqa: B008 (it does not change)
) -> ProofRows:
    """Encode rows for a proof, truncated to keep the logits small; without examples, draw random tokens.

    Args:
        base: the base, whose tokenizer encodes the rows.
        recipe: the recipe, with its own limits.
        examples: the rows.
        pairs: for a multilingual base, the language pairs that the adapter was trained on.
        limits: further limits, in addition to the recipe's.
    """
    texts = [example.source for example in examples]
    languages = base.languages
    if examples:
        check_languages(examples, languages, base.name)
        source_limit = _least(recipe.data.max_source_length, limits.source)
        target_limit = _least(recipe.data.max_target_length, limits.target)
        sources, _ = encode_texts(
            texts,
            base.tokenizer,
            source_limit,
            languages=languages,
            codes=[e.source_lang for e in examples] if languages else (),
            frame=base.frame,
        )
        targets, _ = encode_texts(
            [e.response for e in examples],
            base.tokenizer,
            target_limit,
            as_target=True,
            languages=languages,
            codes=[e.target_lang for e in examples] if languages else (),
            frame=base.frame,
        )
    else:
        generator = torch.Generator().manual_seed(0)
        drawn = torch.randint(len(base.tokenizer), (2, NUM_ROWS, TARGET_TOKENS - 1), generator=generator)
        sources, targets = ([[*row, base.eos_token_id] for row in side] for side in drawn.tolist())
        if languages:
            source, target = pairs[0] if pairs else [next(iter(languages.codes))] * 2
            sources = [languages.source(row, source) for row in sources]
            targets = [languages.target(row, target) for row in targets]
    starts = [base.decoder_start_of(target) for target in targets]
    return ProofRows(
        sources=sources,
        targets=targets,
        texts=texts,
        pad_token_id=base.pad_token_id,
        eos_token_id=base.eos_token_id,
        start_token_ids=[start.start_token_id for start in starts],
        forced_token_ids=[start.forced_token_id for start in starts],
        frame=frame_of(base, pairs),
        text_at=None if languages is None else 1 if languages.begins_source else 0,
        max_new_tokens=_least(recipe.generation.max_new_tokens, limits.answer),
        attention=base.family.attention,
    )


def with_answers(
    rows: ProofRows, examples: Sequence[Example], answers: Sequence[list[int]], limit: int | None = None
) -> ProofRows:
    """Use the answer of base + adapter as the target of rows without a known answer.

    Args:
        rows: the first examples, encoded.
        examples: the examples, with or without responses.
        answers: greedy answers to the examples, without the start token and EOS.
        limit: maximum number of tokens of a target.
    """
    if all(example.response for example in examples):
        return rows
    given = [
        target if example.response else [*answer, rows.eos_token_id][:limit]
        for target, example, answer in zip(rows.targets, examples, answers, strict=False)
    ]
    return replace(rows, targets=given)


def rows_words(rows: ProofRows, *, has_run: bool) -> str:
    """Describe the rows of a proof."""
    rows_of = (
        Message("random tokens")
        if not rows.texts
        else Message("the run")
        if has_run
        else Message("the given data")
    )
    return Message("{rows} of {rows_of}", rows=counted(len(rows.sources), "row"), rows_of=rows_of)


def _least(own: int, limit: int | None) -> int:
    return own if limit is None else min(own, limit)


def check_equal(measured: ModelMeasurement, otherwise: str) -> None:
    """Check that all logits are equal up to rounding, and that answers deviate only at ties.

    Raises:
        ModelError: the outputs differ; the message is `otherwise`.
    """
    allowed = TOLERANCE * measured.largest_logit
    if not (measured.max_difference <= allowed and measured.largest_gap <= 2 * allowed):
        raise proof_failed(
            otherwise,
            found=Message(
                "logits differ by up to {max_difference:.3g}; {num_same_answers} of {num_answers} "
                "answers are the same",
                max_difference=measured.max_difference,
                num_same_answers=measured.num_same_answers,
                num_answers=measured.num_answers,
            ),
            allowed=Message("a difference of at most {allowed:.3g}", allowed=allowed),
        )


def check_tokenizer(num_same: int, rows: ProofRows) -> None:
    """Check that the merged folder's tokenizer gives the same tokens as in the run for every text.

    Raises:
        ModelError: the tokens of a text differ.
    """
    if num_same < len(rows.texts):
        raise proof_failed(
            Message("the tokenizer that plain transformers loads gives different tokens from the run's")
        )


def proof_failed(what: str, found: str = "", allowed: str = "") -> ModelError:
    """Return the error for a folder that failed a check of the proof."""
    return ModelError(
        what,
        where="proof",
        found=found,
        allowed=allowed,
        fix=Message("This is a bug; please report it. Nothing was kept."),
    )


def run_fresh_process(model: Path, proof: Path, stop: StopRequest) -> dict[str, ModelMeasurement]:
    """Run `fresh_process` in a new process, offline, and return its measurements.

    Raises:
        ModelError: the process failed.
        Interrupted: a signal was received; the process was ended.
    """
    run_module(fresh_process.__name__, (model, proof), proof, stop)
    found = json.loads((proof / fresh_process.MEASURED).read_text(encoding="utf-8"))
    return {dtype: ModelMeasurement(**values) for dtype, values in found.items()}


def run_module(module: str, words: Sequence[str | Path], proof: Path, stop: StopRequest) -> None:
    """Run a module of LoRALoom in a new process, offline.

    Args:
        module: full name of the module.
        words: its command-line arguments.
        proof: folder for the error output of the process.
        stop: checked while it runs.

    Raises:
        ModelError: the process failed.
        Interrupted: a signal was received; the process was ended.
    """
    given = [str(word.resolve()) if isinstance(word, Path) else word for word in words]
    with (proof / "stderr").open("wb") as stderr:
        child = subprocess.Popen(
            module_command(module, *given),
            env=module_environment(HF_HUB_OFFLINE="1"),
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            start_new_session=True,  # Ctrl-C reaches only this process, which ends the new one
        )
    try:
        while (code := child.poll()) is None:
            stop_if_asked(stop)
            time.sleep(SECONDS_BETWEEN_LOOKS)
    finally:
        child.kill()
        child.wait()
    if code != 0:
        lines = (proof / "stderr").read_text(encoding="utf-8", errors="replace").strip().splitlines()
        killed = (
            Message("the process was ended by signal {code}, possibly for lack of memory", code=-code)
            if code < 0
            else ""
        )
        is_transformers = module in (fresh_process.__name__, weight_hashes.__name__)
        raise proof_failed(
            Message("plain transformers cannot load the folder")
            if is_transformers
            else Message("the format's own runtime cannot run the export"),
            found=killed or "".join(lines[-1:])[:300],
        )


def stop_if_asked(stop: StopRequest) -> None:
    """Stop between two parts of the work if a stop was requested.

    Raises:
        Interrupted: a signal was received.
    """
    stop.raise_if_set(Message("stopped; nothing was kept"))
