"""Base + adapter in another program's format: written under a hidden name, verified, renamed.

base in float32 ──▶ answers of base + adapter ──▶ W + s·B·A in place ──▶ `Format.write` into .OUT.merging/
    ──▶ the same rows in a new process, with the format's own runtime ──▶ OUT/

Only one copy of the weights exists at a time, on the CPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TypedDict

import torch
from safetensors import SafetensorError

from loraloom.bank.bank import AdapterBank
from loraloom.bank.merging import check_mergeable
from loraloom.bank.peft_folder import README, Adapter
from loraloom.data.example import Example
from loraloom.errors import RunError
from loraloom.evaluate.movement import movement
from loraloom.export import runtime
from loraloom.export.export_proof import (
    NUM_ROUNDED_ROWS,
    ExportProof,
    check_encodings,
    check_exact,
    figure_differences,
    measure,
)
from loraloom.export.export_reference import (
    Reference,
    merge_scored,
    reference_answers,
    reference_log_probabilities,
)
from loraloom.export.export_text import decoding_remarks, export_card, export_remarks
from loraloom.export.format import ExportSource, Form, Format
from loraloom.export.merged_generation import merged_generation_config
from loraloom.export.merged_languages import language_notes
from loraloom.export.proof import (
    NUM_ROWS,
    OF_RECIPE,
    Limits,
    proof_rows,
    rows_words,
    run_module,
    stop_if_asked,
    with_answers,
)
from loraloom.export.recipe_decoding import beyond_greedy, comparable, reference_decoded
from loraloom.export.runtime import ProofRows, RuntimeOutputs
from loraloom.export.staging import MODEL, PROOF, publish
from loraloom.export.transformers_folder import check_space
from loraloom.run.atomic import write_bytes
from loraloom.run.documents.document import JsonObject
from loraloom.run.events import Note, Report
from loraloom.text.message import Message
from loraloom.training.card_facts import Facts
from loraloom.training.out_of_memory import release_memory
from loraloom.training.signals import StopRequest

# Maximum of the rows that the user gives; enough for figures to have an interval.
MOST_PROOF_ROWS = NUM_ROUNDED_ROWS


class ExportSummary(TypedDict):
    """The result of `export`; `proof` is None if the format's runtime is not installed."""

    folder: str
    experiment: str
    format: str
    quantization: str
    form: Form
    bytes: int
    movement: float
    proof: JsonObject | None
    notes: list[str]


@dataclass(frozen=True)
class ExportRequest:
    """A requested export.

    Args:
        format: the format.
        quantization, form: one of the format's quantizations, and one of its forms.
        examples: rows for the proof, with or without responses; if empty, random tokens are used.
        out: the folder to create.
        staged: a hidden folder beside `out`, as created by `staged_beside`.
        has_run_rows: whether the examples are the run's own.
    """

    format: Format
    quantization: str
    form: Form
    examples: Sequence[Example]
    out: Path
    staged: Path
    has_run_rows: bool = True

    @property
    def is_exact(self) -> bool:
        """Whether the export is lossless."""
        return self.quantization in self.format.exact

    @property
    def can_run(self) -> bool:
        """Whether the format's runtime is installed."""
        return not self.format.missing(self.format.runs_with)


def num_proof_rows(format: Format, quantization: str) -> int:
    """Return how many rows a proof uses: more for a rounded export, whose figures need an interval."""
    return NUM_ROWS if quantization in format.exact else NUM_ROUNDED_ROWS


def write_export(
    bank: AdapterBank,
    adapter: Adapter,
    facts: Facts,
    asked: ExportRequest,
    notes: list[str],
    report: Report,
    stop: StopRequest,
) -> ExportSummary:
    """Export the bank's only adapter to a hidden folder, verify that folder, and give it its final name.

    Args:
        bank: the bank, on the base in float32 on the CPU, with the adapter attached; unusable afterwards.
        adapter: the adapter.
        facts: facts for the folder's card.
        asked: the requested export.
        notes: existing notes on the adapter.
        report: called with every event.
        stop: checked between parts of the work.

    Returns:
        The result of `export`.

    Raises:
        ModelError: the model cannot be exported, or the proof failed.
        RunError: there is too little space, or a file could not be written.
        Interrupted: a stop was requested.
    """
    loaded, name, recipe = bank.base, facts.experiment.name, facts.recipe
    base_path = str(loaded.model.config.name_or_path)
    asked.format.check_adapter(adapter.settings, asked.form)
    if asked.form == "merged":
        check_mergeable(bank, name)
        check_space(asked.out.parent, loaded.model, getattr(torch, asked.quantization))
        targets = {target for _, target in facts.languages}
        loaded.model.generation_config, inherited = merged_generation_config(
            loaded, recipe.generation, targets
        )
        notes += [*inherited.notes(), *language_notes(loaded, facts.languages)]
    for note in notes:
        report(Note(message=note))
    shift = movement(bank, name)
    # Figures need whole answers; answers to random tokens have no figures.
    limits = Limits() if asked.is_exact or not asked.examples else OF_RECIPE
    rows = proof_rows(loaded, recipe, asked.examples, facts.languages, limits)
    rows = replace(rows, decoding=comparable(recipe.generation, asked.format.decodes))
    answers, nearest = reference_answers(bank, name, rows, with_nearest=asked.is_exact)
    decoded = reference_decoded(bank, name, rows, recipe.generation) if asked.can_run else []
    rows = with_answers(rows, asked.examples, answers)
    stop_if_asked(stop)
    merging: float | None = None
    if asked.form == "merged":
        folder = asked.staged / PROOF / "merging"
        scored, merging = merge_scored(bank, facts, asked.examples, rows, answers, folder, stop)
    else:
        scored = reference_log_probabilities(bank, name, rows)
    reference = Reference(answers, scored, nearest, decoded)
    source = ExportSource(
        base=loaded,
        facts=facts,
        form=asked.form,
        quantization=asked.quantization,
        settings=adapter.settings,
        tensors=adapter.tensors,
        available=tuple(bank.available),
    )
    written = _write(source, asked)
    loaded.model.to("meta")  # the new process needs the memory now
    release_memory()
    proof = _prove(bank, reference, rows, asked, base_path, facts, merging, report, stop)
    written += export_remarks(asked.format, proof)
    written += decoding_remarks(asked.format, recipe.generation, proof)
    for note in written:
        report(Note(message=note))
    card = export_card(facts, asked.format, source, proof)
    write_bytes(asked.staged / MODEL / README, card.encode())
    return {
        "folder": str(asked.out),
        "experiment": name,
        "format": asked.format.name,
        "quantization": asked.quantization,
        "form": asked.form,
        "movement": shift.total,
        "proof": None if proof is None else asdict(proof),
        "notes": [*notes, *written],
        "bytes": publish(asked.staged / MODEL, asked.out, stop),
    }


def _write(source: ExportSource, asked: ExportRequest) -> list[str]:
    """Write the export, converting disk errors to a RunError; return the format's notes.

    Raises:
        RunError: a file could not be written.
    """
    try:
        return asked.format.write(source, asked.staged / MODEL)
    except (OSError, SafetensorError) as error:
        raise RunError(
            Message("the export could not be written"),
            where=str(asked.out.parent),
            found=str(error).split("\n")[0],
            fix=Message("Nothing was kept."),
        ) from None


def _prove(
    bank: AdapterBank,
    reference: Reference,
    rows: ProofRows,
    asked: ExportRequest,
    base_path: str,
    facts: Facts,
    merging: float | None,
    report: Report,
    stop: StopRequest,
) -> ExportProof | None:
    """Run the export in a new process and return the proof; None if its runtime is not installed.

    Raises:
        ModelError: the export cannot be run, or its outputs differ.
    """
    if not asked.can_run:
        return None
    message = Message(
        "the export is written; a new process now verifies it with {title}", title=asked.format.title
    )
    report(Note(message=message))
    outputs = run_export(asked.format, asked.staged / MODEL, asked.staged / PROOF, rows, base_path, stop)
    measured = measure(outputs, reference, rows)
    check_encodings(outputs, rows)
    if asked.is_exact:
        check_exact(measured, reference)
    responses = [example.response for example in asked.examples]
    has_figures = not asked.is_exact and bool(responses) and all(responses)
    return ExportProof(
        rows=rows_words(rows, has_run=facts.has_run and asked.has_run_rows),
        runtime=outputs.runtime,
        computed_in=outputs.computed_in,
        is_exact=asked.is_exact,
        measured=measured,
        figures=figure_differences(outputs, reference, responses, bank) if has_figures else [],
        merging=merging,
        decoding=beyond_greedy(facts.recipe.generation),
    )


def run_export(
    format: Format, folder: Path, proof: Path, rows: ProofRows, base: str, stop: StopRequest
) -> RuntimeOutputs:
    """Run an exported folder in a new process, with the format's own runtime.

    Args:
        format: the format.
        folder: the exported folder.
        proof: the folder of the proof.
        rows: input for the model.
        base: folder or hub name of the base, for a format that can contain only the adapter.
        stop: checked while it runs.
    """
    runtime.ask(proof, rows, base)
    run_module(runtime.__name__, (format.runtime, folder, proof), proof, stop)
    return runtime.read_outputs(proof)
