"""merge: an adapter becomes part of its base; the folder is proven before it has its name.

base in float32 ──▶ what base + adapter say ──▶ W + s·B·A in place ──▶ rounded, saved in .OUT.merging/
    ──▶ a fresh process with plain transformers says the same ──▶ OUT/

Only one copy of the weights is held at a time, on the CPU.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

import loraloom
from loraloom.bank.bank import AdapterBank
from loraloom.bank.merging import Merged, merge_adapter, round_weights
from loraloom.bank.peft_folder import README, read_adapter
from loraloom.bank.rows import Rows, Share
from loraloom.base.loading import Base, load_base
from loraloom.data.encoding import encode_texts
from loraloom.data.examples import Example
from loraloom.errors import DataError, Interrupted, ModelError, RunError
from loraloom.evaluate.movement import movement
from loraloom.recipe import Recipe
from loraloom.run import Report, Run, fsync_folder, open_run, quiet, write_bytes
from loraloom.training.card import Facts, front_matter, merged_code, python_block, table, training_sections
from loraloom.training.stopping import StopRequest, stop_on_signals
from loraloom.workflows import merge_proof
from loraloom.workflows import provenance as origin
from loraloom.workflows.card import adapter_facts
from loraloom.workflows.loading import adapter_names, only_experiment
from loraloom.workflows.merge_proof import Measured, ProofRows, Spoken, speak
from loraloom.workflows.merged_folder import (
    check_dtype,
    check_space,
    choose_dtype,
    generation_config,
    num_bytes,
    save_model,
    sync,
)
from loraloom.workflows.prepare import locate_model

NUM_ROWS = 8
# Of each row: 8 × 32 positions of 250,112 logits are 256 MB.
TARGET_TOKENS, SOURCE_TOKENS, NEW_TOKENS = 32, 512, 64
# Of the largest logit. Base + adapter adds two products where the merged model has one: 1e-6 was measured.
TOLERANCE = 1e-4
SECONDS_BETWEEN_LOOKS = 0.2
MODEL, PROOF = "model", "proof"


@dataclass(frozen=True)
class Proof:
    """What was shown about the merged folder.

    Args:
        rows: which ones it was asked.
        num_merged: linears that are W + s·B·A.
        merging: base + adapter against the merged weights in float32.
        reload: what was saved against the same weights in a fresh process, in float32.
        rounding: base + adapter against the folder in the dtype it is saved in, where that is smaller.
        rounding_beside_update: ‖rounding‖ / ‖ΔW‖ over the merged linears.
    """

    rows: str
    num_merged: int
    merging: Measured
    reload: Measured
    rounding: Measured | None
    rounding_beside_update: float | None


def merge(
    run: Path,
    out: Path,
    *,
    experiment: str | None = None,
    dtype: str | None = None,
    report: Report = quiet,
) -> dict[str, Any]:
    """Write base + adapter as one plain transformers folder, and prove it.

    Args:
        run: the run directory.
        out: the folder to make; it must not exist.
        experiment: whose adapter; may be left out where the run has one.
        dtype: to save in, `float32` or `bfloat16`; by default that of the base's own files.
        report: told of progress and of what should be known.

    Returns:
        `{"folder", "experiment", "dtype", "dtype_reason", "bytes", "movement", "proof", "notes"}`.

    Raises:
        RunError: the run has no such adapter, `out` exists, or there is too little room.
        AdapterError: the adapter is damaged or belongs to another base.
        ModelError: the dtype is not usable, or the proof failed; nothing is left at `out`.
        Interrupted: SIGINT or SIGTERM; nothing is left either.
    """
    opened = open_run(run)
    recipe, folder, _ = origin.run_recipe(opened)
    name = experiment or only_experiment(opened, recipe)
    _, notes = adapter_names(opened, recipe, [name])
    _check_out(out)
    adapter = read_adapter(opened.adapters / name)  # before the base, which takes longer
    check_dtype(dtype, adapter.origin.get("model_type"))
    facts = adapter_facts(opened, name)
    examples, rows_note = _examples(opened, recipe, folder)
    with stop_on_signals() as stop, _staged(out) as staged:
        base = load_base(
            locate_model(recipe.model_name_or_path, folder),
            dtype="float32",
            device="cpu",
            allow_bin_weights=recipe.allow_bin_weights,
        )
        check_dtype(dtype, base.model.config.model_type)
        bank = AdapterBank(base)
        adapter = read_adapter(opened.adapters / name, base)
        bank.attach(name, adapter.settings, seed=0, tensors=adapter.tensors)
        moved = movement(bank, name)
        chosen = choose_dtype(dtype, base)
        check_space(out.parent, num_bytes(base.model, getattr(torch, chosen.value)))
        base.model.generation_config, dropped = generation_config(base, recipe.generation)
        if dropped:
            notes.append(f"the base's own generation settings are the recipe's now: {', '.join(dropped)}")
        if rows_note:
            notes.append(rows_note)
        for note in notes:
            report("note", message=note)
        rows = _proof_rows(base, recipe, examples)
        what = f"{len(rows.sources)} {'rows of the run' if examples else 'rows of random tokens'}"
        proof = _merge(bank, name, rows, what, chosen.value, staged, stop, report)
        new = _remarks(proof, chosen.value)
        for note in new:
            report("note", message=note)
        result = {
            "folder": str(out),
            "experiment": name,
            "dtype": chosen.value,
            "dtype_reason": chosen.reason,
            "movement": moved.total,
            "proof": asdict(proof),
            "notes": [*notes, *new],
        }
        card = _card(facts, result, proof)
        write_bytes(staged / MODEL / README, card.encode())
        result["bytes"] = sync(staged / MODEL)
        _stop_if_asked(stop)
        _check_out(out)
        os.rename(staged / MODEL, out)
        fsync_folder(out.parent)
    return result


def _check_out(out: Path) -> None:
    if out.exists() or out.is_symlink():
        raise RunError("is there already", where=str(out), fix="Name a folder that does not exist.")
    if not out.parent.is_dir():
        raise RunError("there is no such folder", where=str(out.parent), fix="Make it first.")


@contextmanager
def _staged(out: Path) -> Iterator[Path]:
    """A hidden folder beside `out` that is gone afterwards; only its user can read it, for the proof's rows."""
    staged = out.with_name(f".{out.name}.merging")
    try:
        staged.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise RunError(f"cannot be made: {error.strerror}", where=str(staged)) from None
    with Run(staged).locked():  # another merge into the same folder is refused
        for part in (MODEL, PROOF):
            shutil.rmtree(staged / part, ignore_errors=True)  # of one that was killed
            (staged / part).mkdir()
        try:
            yield staged
        finally:
            shutil.rmtree(staged, ignore_errors=True)


def _examples(run: Run, recipe: Recipe, folder: Path) -> tuple[list[Example], str]:
    """Some rows of the run, of those that training saw least; none, and why, where the data is gone."""
    try:
        split = origin.run_split(run, recipe, folder)
    except DataError as error:
        reason = str(error.problems[0])
        return [], f"the run's rows are not there, so the proof takes random tokens instead: {reason}"
    part = split.test or split.eval or split.train
    return part[:: max(1, len(part) // NUM_ROWS)][:NUM_ROWS], ""


def _proof_rows(base: Base, recipe: Recipe, examples: Sequence[Example]) -> ProofRows:
    texts = [example.source for example in examples]
    if examples:
        source_limit = min(recipe.data.max_source_length, SOURCE_TOKENS)
        target_limit = min(recipe.data.max_target_length, TARGET_TOKENS)
        sources, _ = encode_texts(texts, base.tokenizer, source_limit)
        targets, _ = encode_texts([e.response for e in examples], base.tokenizer, target_limit, as_target=True)
    else:
        generator = torch.Generator().manual_seed(0)
        drawn = torch.randint(len(base.tokenizer), (2, NUM_ROWS, TARGET_TOKENS - 1), generator=generator)
        sources, targets = ([[*row, base.eos_token_id] for row in side] for side in drawn.tolist())
    return ProofRows(
        sources=sources,
        targets=targets,
        texts=texts,
        pad_token_id=base.pad_token_id,
        eos_token_id=base.eos_token_id,
        start_token_id=base.start_token_id,
        max_new_tokens=min(recipe.generation.max_new_tokens, NEW_TOKENS),
    )


def _merge(
    bank: AdapterBank,
    name: str,
    rows: ProofRows,
    what: str,
    dtype: str,
    staged: Path,
    stop: StopRequest,
    report: Report,
) -> Proof:
    """Merge, save below `staged`, and prove; the base is given up on the way."""
    base = bank.base
    model = base.model.eval()
    with bank.rows(Rows((Share(name, len(rows.sources)),))):
        wanted = speak(model, rows)
    _stop_if_asked(stop)
    merged = merge_adapter(bank, name)
    spoken = speak(model, rows)
    merging = merge_proof.difference(model, rows, spoken, wanted)
    _must_equal(merging, "the merged model in float32 does not say what base and adapter say")
    _stop_if_asked(stop)
    expected, beside = {"float32": wanted}, None
    if dtype != "float32":
        beside = round_weights(model, merged, getattr(torch, dtype))
        expected = {"float32": speak(model, rows), "auto": wanted}
        model.to(getattr(torch, dtype))
    save_model(base, staged / MODEL)
    report("note", message=f"merged {len(merged.modules)} linears; a fresh process now proves the folder")
    proof = Proof(what, len(merged.modules), merging, merging, None, beside)
    return _prove(bank, merged, proof, rows, expected, staged, stop)
