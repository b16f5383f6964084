"""merge: an adapter becomes part of its base; the folder is proven before it has its name.

base in float32 ──▶ what base + adapter say ──▶ W + s·B·A in place ──▶ rounded, saved in .OUT.merging/
    ──▶ a fresh process with plain transformers says the same ──▶ OUT/

Only one copy of the weights is held at a time, on the CPU.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from loraloom.bank.bank import AdapterBank
from loraloom.bank.merging import merge_adapter, round_weights
from loraloom.bank.ownership import Rows, Share
from loraloom.bank.peft_folder import README, read_adapter
from loraloom.commands.card import adapter_facts
from loraloom.data.splitting.split import Split
from loraloom.errors import DataError, RunError
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
    choose_rows,
    proof_rows,
    stop_if_asked,
)
from loraloom.export.transformers_folder import check_dtype, check_space, choose_dtype, save_model, sync
from loraloom.recipe import Recipe
from loraloom.run.atomic import fsync_folder, write_bytes
from loraloom.run.documents.provenance import Provenance
from loraloom.run.events import Note, Report, quiet
from loraloom.run.folder import LOCK_FILE, Run, open_run
from loraloom.run.lock import locked
from loraloom.session import provenance as origin
from loraloom.session.adapter_names import one_adapter
from loraloom.session.answering_model import load_run_base
from loraloom.session.locations import Relocation, relocated
from loraloom.training.signals import StopRequest, stop_on_signals

MODEL, PROOF = "model", "proof"


def merge(
    run: Path,
    out: Path,
    *,
    experiment: str | None = None,
    dtype: str | None = None,
    base: Path | None = None,
    data: Path | None = None,
    report: Report = quiet,
    stop: StopRequest | None = None,
) -> dict[str, Any]:
    """Write base + adapter as one plain transformers folder, and prove it.

    Args:
        run: the run directory.
        out: the folder to make; it must not exist.
        experiment: whose adapter; may be left out where the run has one.
        base, data: where the run's base and its data are now, if they were moved: the base's folder, and
            the folder that takes the place of the one where the data was, or a file. They must be the same.
        dtype: to save in, `float32` or `bfloat16`; by default that of the base's own files.
        report: told of progress and of what should be known.
        stop: the caller's own token to stop by; without one, SIGINT and SIGTERM ask to stop.

    Returns:
        `{"folder", "experiment", "dtype", "dtype_reason", "bytes", "movement", "generation", "proof",
        "notes"}`; `generation` is what became of the settings that the base's own file states.

    Raises:
        RunError: the run has no such adapter, `out` exists, or there is too little room.
        AdapterError: the adapter is damaged or belongs to another base.
        ModelError: the dtype is not usable, or the proof failed; nothing is left at `out`.
        Interrupted: it was asked to stop; nothing is left either.
    """
    opened = open_run(run)
    recipe, known = origin.run_recipe(opened)
    recipe, moved = relocated(opened, recipe, known, Relocation(base, data))
    name, notes = one_adapter(opened, recipe, experiment, usage=["merge", str(run), str(out)])
    _check_out(out)
    adapter = read_adapter(opened.adapters / name)  # before the base, which takes longer
    check_dtype(dtype, adapter.origin.get("model_type"))
    facts = adapter_facts(opened, name)
    split, about_rows = _split(opened, recipe, known)
    notes += [*moved, *about_rows]
    with stop_on_signals(stop) as stop, _staged(out) as staged:
        bank, of_adapter = _load(recipe, known, opened.adapters / name, name)
        notes += of_adapter
        loaded = bank.base
        check_dtype(dtype, loaded.model.config.model_type)
        chosen = choose_dtype(dtype, loaded)
        check_space(out.parent, loaded.model, getattr(torch, chosen.value))
        loaded.model.generation_config, inherited = merged_generation_config(loaded, recipe.generation)
        notes += inherited.notes()
        for note in notes:
            report(Note(message=note))
        shift = movement(bank, name)
        rows = proof_rows(loaded, recipe, choose_rows(split))
        proof, of_files = _merge(bank, name, rows, chosen.value, staged, stop, report)
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
        write_bytes(staged / MODEL / README, merged_card(facts, result, proof, logit_scale=scale).encode())
        result["bytes"] = _publish(staged / MODEL, out, stop)
    return result


def _split(run: Run, recipe: Recipe, known: Provenance) -> tuple[Split | None, list[str]]:
    """The run's rows; where they are gone, why, for a merge needs none of them."""
    try:
        return origin.run_split(run, recipe, known), []
    except DataError as error:
        why = str(error.problems[0])
        return None, [f"the run's rows are not there, so the proof takes random tokens: {why}"]


def _load(
    recipe: Recipe, known: Provenance, adapter_folder: Path, name: str
) -> tuple[AdapterBank, tuple[str, ...]]:
    """The run's base in float32 on the CPU, whatever it was trained in, with the adapter attached.

    Returns:
        The bank, and what should be known of the adapter.
    """
    base = load_run_base(recipe, known, {"dtype": "float32", "device": "cpu"})
    adapter = read_adapter(adapter_folder, base)
    bank = AdapterBank(base)
    bank.attach(name, adapter.settings, seed=0, tensors=adapter.tensors)
    return bank, adapter.notes


def _publish(model: Path, out: Path, stop: StopRequest) -> int:
    """Give the proven folder its name; its size in bytes."""
    size = sync(model)
    stop_if_asked(stop)
    _check_out(out)
    os.rename(model, out)
    fsync_folder(out.parent)
    return size


def _check_out(out: Path) -> None:
    if out.exists() or out.is_symlink():
        raise RunError("is there already", where=str(out), fix="Name a folder that does not exist.")
    if not out.parent.is_dir():
        raise RunError("there is no such folder", where=str(out.parent), fix="Make it first.")


@contextmanager
def _staged(out: Path) -> Iterator[Path]:
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
    name: str,
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
    model = bank.base.model.eval()
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
    proof = Proof(
        rows=f"{len(rows.sources)} rows of {'the run' if rows.texts else 'random tokens'}",
        num_merged=len(merged.modules),
        weight_error=merged.largest_error,
        merging=merging,
        reload=measured["float32"],
        rounding=measured.get("auto"),
        rounding_beside_update=beside,
    )
    return proof, notes
