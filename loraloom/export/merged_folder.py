"""Base + adapter as one transformers folder: merged, saved under another name, proven, and then named.

base in float32 ──▶ what base + adapter say ──▶ W + s·B·A in place ──▶ rounded, saved in .OUT.merging/
    ──▶ a fresh process with plain transformers says the same ──▶ OUT/

Only one copy of the weights is held at a time, on the CPU.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from loraloom.bank.bank import AdapterBank
from loraloom.bank.merging import merge_adapter, round_weights
from loraloom.bank.ownership import Rows, Share
from loraloom.bank.peft_folder import README
from loraloom.data.examples import Example
from loraloom.errors import RunError
from loraloom.evaluate.movement import movement
from loraloom.export import fresh_process
from loraloom.export.fresh_process import ProofRows, run_model
from loraloom.export.merge_text import merged_card, remarks
from loraloom.export.merged_generation import merged_generation_config
from loraloom.export.proof import (
    Proof,
    ask_fresh_process,
    check_equal,
    check_tokenizer,
    proof_rows,
    stop_if_asked,
)
from loraloom.export.transformers_folder import check_dtype, check_space, choose_dtype, save_model, sync
from loraloom.run.atomic import fsync_folder, write_bytes
from loraloom.run.events import Note, Report
from loraloom.run.folder import LOCK_FILE
from loraloom.run.lock import locked
from loraloom.training.adapter_card import Facts
from loraloom.training.signals import StopRequest

MODEL, PROOF = "model", "proof"


def write_merged(
    bank: AdapterBank,
    facts: Facts,
    examples: Sequence[Example],
    dtype: str | None,
    out: Path,
    staged: Path,
    notes: list[str],
    report: Report,
    stop: StopRequest,
) -> dict[str, Any]:
    """Merge the bank's one adapter, prove the folder, and give it its name.

    Args:
        bank: on the base in float32 on the CPU, with the adapter attached; used up.
        facts: for the folder's card.
        examples: rows for the proof; without any, it takes random tokens.
        dtype: to save in; by default that of the base's own files.
        out: the folder to make.
        staged: a hidden folder beside it, as `staged_beside` gives it.
        notes: what is known of the adapter already.
        report: told of everything.
        stop: looked at between two parts of the work.

    Returns:
        What `merge` returns.

    Raises:
        ModelError: the dtype is not usable, or the proof failed.
        RunError: there is too little room.
        Interrupted: it was asked to stop.
    """
    loaded, name, recipe = bank.base, facts.experiment.name, facts.recipe
    check_dtype(dtype, loaded.model.config.model_type)
    chosen = choose_dtype(dtype, loaded)
    check_space(out.parent, loaded.model, getattr(torch, chosen.value))
    loaded.model.generation_config, inherited = merged_generation_config(loaded, recipe.generation)
    notes += inherited.notes()
    for note in notes:
        report(Note(message=note))
    shift = movement(bank, name)
    rows = proof_rows(loaded, recipe, examples)
    proof, of_files = _merge(bank, facts, rows, chosen.value, staged, stop, report)
    notes += of_files
    for note in remarks(proof, chosen.value):
        report(Note(message=note))
    result: dict[str, Any] = {
        "folder": str(out),
        "experiment": name,
        "dtype": chosen.value,
        "dtype_reason": chosen.reason,
        "movement": shift.total,
        "generation": inherited.as_dict(),
        "proof": asdict(proof),
        "notes": [*notes, *remarks(proof, chosen.value)],
    }
    scale = loaded.family.output_scale(loaded.model.config)
    card = merged_card(facts, result, proof, family=loaded.family, logit_scale=scale)
    write_bytes(staged / MODEL / README, card.encode())
    result["bytes"] = _publish(staged / MODEL, out, stop)
    return result


def _publish(model: Path, out: Path, stop: StopRequest) -> int:
    """Give the proven folder its name; its size in bytes."""
    size = sync(model)
    stop_if_asked(stop)
    check_out(out)
    os.rename(model, out)
    fsync_folder(out.parent)
    return size


def check_out(out: Path) -> None:
    """Refuse a folder that is there, or that cannot be made.

    Raises:
        RunError: which of them.
    """
    if out.exists() or out.is_symlink():
        raise RunError("is there already", where=str(out), fix="Name a folder that does not exist.")
    if not out.parent.is_dir():
        raise RunError("there is no such folder", where=str(out.parent), fix="Make it first.")


@contextmanager
def staged_beside(out: Path) -> Iterator[Path]:
    """A hidden folder beside `out` that is gone afterwards; only its user can read the rows of the proof."""
    staged = out.with_name(f".{out.name}.merging")
    try:
        staged.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise RunError(f"cannot be made: {error.strerror}", where=str(staged)) from None
    with locked(staged / LOCK_FILE, doing="merges into this folder", where=out):
        for part in (MODEL, PROOF):
            shutil.rmtree(staged / part, ignore_errors=True)  # of one that was killed
            (staged / part).mkdir()
        try:
            yield staged
        finally:
            shutil.rmtree(staged, ignore_errors=True)


def _merge(
    bank: AdapterBank,
    facts: Facts,
    rows: ProofRows,
    dtype: str,
    staged: Path,
    stop: StopRequest,
    report: Report,
) -> tuple[Proof, list[str]]:
    """Merge, save below `staged`, and prove; the base's memory is given back on the way.

    Returns:
        What was shown, and what is not as in the base's folder.
    """
    model, name = bank.base.model.eval(), facts.experiment.name
    with bank.rows(Rows((Share(name, len(rows.sources)),))):
        wanted = run_model(model, rows)
    stop_if_asked(stop)
    merged = merge_adapter(bank, name)
    merging = fresh_process.difference(model, rows, run_model(model, rows), wanted)
    check_equal(merging, "merged in float32, the model does not say what base and adapter say")
    stop_if_asked(stop)
    expected, beside = {"float32": wanted}, None
    if dtype != "float32":
        beside = round_weights(model, merged, getattr(torch, dtype))
        expected = {"float32": run_model(model, rows), "auto": wanted}
        model.to(getattr(torch, dtype))
    notes = save_model(bank.base, staged / MODEL)
    for note in notes:
        report(Note(message=note))
    model.to("meta")  # a fresh process needs the memory now
    report(Note(message=f"merged {len(merged.modules)} linears; a fresh process proves the folder"))
    fresh_process.generate_answers(staged / PROOF, rows, expected)
    measured = ask_fresh_process(staged / MODEL, staged / PROOF, stop)
    check_equal(measured["float32"], "read by plain transformers, the folder does not say what it should")
    check_tokenizer(measured["float32"], rows)
    rows_of = "random tokens" if not rows.texts else "the run" if facts.has_run else "the data given"
    proof = Proof(
        rows=f"{len(rows.sources)} rows of {rows_of}",
        num_merged=len(merged.modules),
        weight_error=merged.largest_error,
        merging=merging,
        reload=measured["float32"],
        rounding=measured.get("auto"),
        rounding_beside_update=beside,
    )
    return proof, notes
