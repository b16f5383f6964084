"""Base + adapter as a transformers folder: merged, saved under a temporary name, verified, renamed.

base in float32 ──▶ outputs of base + adapter ──▶ W + s·B·A in place ──▶ rounded, saved in .OUT.merging/
    ──▶ the same outputs in a new process with plain transformers ──▶ OUT/

Only one copy of the weights exists at a time, on the CPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from loraloom.bank.bank import AdapterBank
from loraloom.bank.merging import MergeReport, check_mergeable, merge_adapter, round_weights
from loraloom.bank.peft_folder import README
from loraloom.data.example import Example
from loraloom.data.ownership import Rows
from loraloom.errors import RunError
from loraloom.evaluate.movement import movement
from loraloom.export import fresh_process
from loraloom.export.fresh_process import ModelMeasurement, StoredOutputs, store_outputs
from loraloom.export.merge_text import MergeDocument, MergeSummary, figures, merged_card, proof_text, remarks
from loraloom.export.merged_generation import merged_generation_config
from loraloom.export.merged_languages import language_notes
from loraloom.export.proof import (
    Proof,
    check_equal,
    check_tokenizer,
    proof_rows,
    rows_words,
    run_fresh_process,
    stop_if_asked,
)
from loraloom.export.runtime import ProofRows
from loraloom.export.staging import MODEL, PROOF, publish
from loraloom.export.transformers_folder import check_dtype, check_space, choose_dtype
from loraloom.export.transformers_format import write_transformers
from loraloom.run.atomic import write_bytes
from loraloom.run.events import Note, Report
from loraloom.text.message import Message
from loraloom.training.card_facts import Facts
from loraloom.training.out_of_memory import release_memory
from loraloom.training.signals import StopRequest


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
) -> MergeDocument:
    """Merge the bank's only adapter, write a hidden folder, verify it, and rename it to its final name.

    Args:
        bank: the bank, on the base in float32 on the CPU, with the adapter attached; unusable afterwards.
        facts: facts for the folder's card.
        examples: rows for the proof; if empty, random tokens are used.
        dtype: dtype to save in; None for that of the base's own files.
        out: the folder to create.
        staged: a hidden folder beside `out`, as created by `staged_beside`.
        notes: existing notes on the adapter.
        report: called with every event.
        stop: checked between parts of the work.

    Returns:
        The result of `merge`.

    Raises:
        ModelError: the dtype is unusable, or the proof failed.
        RunError: there is too little space, or a file could not be written.
        Interrupted: a stop was requested.
    """
    loaded, name, recipe = bank.base, facts.experiment.name, facts.recipe
    check_dtype(dtype, loaded.model.config.model_type)
    chosen = choose_dtype(dtype, loaded)
    check_space(out.parent, loaded.model, getattr(torch, chosen.value))
    check_mergeable(bank, name)
    targets = {target for _, target in facts.languages}
    loaded.model.generation_config, inherited = merged_generation_config(loaded, recipe.generation, targets)
    notes += [*inherited.notes(), *language_notes(loaded, facts.languages)]
    for note in notes:
        report(Note(message=note))
    shift = movement(bank, name)
    rows = proof_rows(loaded, recipe, examples, facts.languages)
    proof, of_files = _merge(bank, facts, rows, chosen.value, staged, stop, report)
    notes += of_files
    for note in remarks(proof, chosen.value):
        report(Note(message=note))
    summary: MergeSummary = {
        "folder": str(out),
        "experiment": name,
        "dtype": chosen.value,
        "dtype_reason": chosen.reason,
        "movement": shift.total,
        "generation": inherited.as_dict(),
        "shard_by_shard": False,
        "proof": asdict(proof),
        "notes": [*notes, *remarks(proof, chosen.value)],
    }
    scale = loaded.family.output_scale(loaded.model.config)
    card = merged_card(
        facts,
        summary,
        figures(summary),
        proof_text(),
        family=loaded.family,
        logit_scale=scale,
        flag_matters=proof.reload.flag_matters,
    )
    write_bytes(staged / MODEL / README, card.encode())
    return {**summary, "bytes": publish(staged / MODEL, out, stop)}


def merge_proven(
    bank: AdapterBank,
    name: str,
    rows: ProofRows,
    folder: Path,
    stop: StopRequest,
    answers: list[list[int]] | None = None,
) -> tuple[StoredOutputs, MergeReport, ModelMeasurement]:
    """Merge the adapter into the weights, and check that the model's outputs stay the same.

    Args:
        bank: the bank, with the adapter attached.
        name: the adapter.
        rows: input for the model.
        folder: folder to create, for the outputs of base + adapter.
        stop: checked between parts of the work.
        answers: greedy answers of base + adapter to the rows, if they are already known.

    Returns:
        Outputs of base + adapter, what was merged, and how much the merged model's outputs differ.

    Raises:
        ModelError: the merged model's outputs differ.
        RunError: the outputs could not be written.
    """
    model = bank.base.model.eval()
    wanted = _stored(model, rows, folder, lambda num_rows: bank.rows(Rows((name,), (num_rows,))), answers)
    stop_if_asked(stop)
    merged = merge_adapter(bank, name)
    merging = fresh_process.difference(model, rows, wanted)
    check_equal(merging, Message("the model merged in float32 gives different outputs from base + adapter"))
    stop_if_asked(stop)
    return wanted, merged, merging


def _stored(model: Any, rows: ProofRows, folder: Path, *during: Any) -> StoredOutputs:
    """Store outputs, converting disk errors to a RunError.

    Raises:
        RunError: the outputs could not be written.
    """
    try:
        return store_outputs(model, rows, folder, *during)
    except (OSError, SafetensorError) as error:
        raise RunError(
            Message("the outputs for the proof could not be written"),
            where=str(folder.parent),
            found=str(error).split("\n")[0],
            fix=Message("Nothing was kept."),
        ) from None


def _merge(
    bank: AdapterBank,
    facts: Facts,
    rows: ProofRows,
    dtype: str,
    staged: Path,
    stop: StopRequest,
    report: Report,
) -> tuple[Proof, list[str]]:
    """Merge the adapter, save the model in a subfolder of `staged`, free the base's memory, and verify.

    Returns:
        The proof, and notes on what differs from the base's folder.
    """
    model = bank.base.model
    proof_folder, in_float32, as_saved = staged / PROOF, "float32", "auto"
    of_adapter = in_float32 if dtype == "float32" else as_saved
    wanted, merged, merging = merge_proven(bank, facts.experiment.name, rows, proof_folder / of_adapter, stop)
    expected, beside = {of_adapter: wanted}, None
    if dtype != "float32":
        beside = round_weights(model, merged, getattr(torch, dtype))
        # The larger first: the memory that it frees in the new process has room for the smaller.
        expected = {in_float32: _stored(model, rows, proof_folder / in_float32), **expected}
        model.to(getattr(torch, dtype))
        release_memory()
    notes = write_transformers(bank.base, facts.languages, staged / MODEL)
    for note in notes:
        report(Note(message=note))
    model.to("meta")
    release_memory()  # the new process needs the memory now
    report(
        Note(
            message=Message(
                "merged {num_modules} linears; a new process is now verifying the folder",
                num_modules=len(merged.modules),
            )
        )
    )
    fresh_process.write_question(proof_folder, rows, expected)
    measured = run_fresh_process(staged / MODEL, proof_folder, stop)
    check_equal(
        measured[in_float32],
        Message("the merged model, as loaded by plain transformers, does not give the expected outputs"),
    )
    check_tokenizer(measured[in_float32].num_same_encodings, rows)
    proof = Proof(
        rows=rows_words(rows, has_run=facts.has_run),
        num_merged=len(merged.modules),
        weight_error=merged.largest_error,
        merging=merging,
        reload=measured[in_float32],
        rounding=measured.get(as_saved),
        rounding_beside_update=beside,
    )
    return proof, notes
