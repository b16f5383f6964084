"""Merging base + adapter into a transformers folder tensor by tensor, if the base does not fit in memory.

pages of the base's files ──▶ W + s·B·A, checked, rounded ──▶ .OUT.merging/, and a hash of each tensor
    ──▶ the hashes of what plain transformers loads from there, in a new process ──▶ OUT/

The files are the same as those of `merged_folder.py`, to the last bit. No answers are generated.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from loraloom.bank.bank import AdapterBank
from loraloom.bank.merging import check_mergeable
from loraloom.bank.peft_folder import README
from loraloom.bank.tensor_merge import TensorMerge, names_by_place
from loraloom.base.loading import Base
from loraloom.base.mapped_weights import is_mapped
from loraloom.data.example import Example
from loraloom.errors import ModelError, RunError
from loraloom.evaluate.movement import movement
from loraloom.export import weight_hashes
from loraloom.export.fresh_process import MEASURED, write_question
from loraloom.export.merge_text import MergeDocument, MergeSummary, merged_card
from loraloom.export.merged_generation import merged_generation_config
from loraloom.export.merged_languages import language_notes, set_languages
from loraloom.export.merged_tokenizer import copy_tokenizer
from loraloom.export.proof import check_tokenizer, proof_failed, proof_rows, run_module, stop_if_asked
from loraloom.export.runtime import ProofRows
from loraloom.export.shard_plan import plan_shards
from loraloom.export.shards_text import WeightProof, proof_text, shards_figures, shards_remarks
from loraloom.export.staging import MODEL, PROOF, publish
from loraloom.export.tensor_file import write_tensors
from loraloom.export.transformers_folder import check_dtype, check_space, choose_dtype
from loraloom.export.weight_hashes import LoadedFolder
from loraloom.run.atomic import write_bytes
from loraloom.run.events import Note, Report
from loraloom.text.message import Message
from loraloom.training.card_facts import Facts
from loraloom.training.signals import StopRequest


def write_by_shards(
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
    """Merge the bank's only adapter tensor by tensor, verify the folder, and rename it to `out`.

    Args:
        bank: the bank, on a base whose weights are mapped from its files (`base/mapped_weights.py`), with
            the adapter attached; the adapter is removed from it.
        examples: rows whose texts the folder's tokenizer must encode as in training.
        facts, dtype, out, staged, notes, report, stop: as in `write_merged`.

    Returns:
        The result of `merge`.

    Raises:
        ModelError: the dtype is unusable, the base cannot be merged this way, or the proof failed.
        RunError: there is too little space, or a file could not be written.
        Interrupted: a stop was requested.
    """
    loaded, name, recipe = bank.base, facts.experiment.name, facts.recipe
    check_dtype(dtype, loaded.model.config.model_type)
    chosen = choose_dtype(dtype, loaded)
    wanted = getattr(torch, chosen.value)
    check_mergeable(bank, name)
    _check_computed(loaded, wanted)
    check_space(out.parent, loaded.model, wanted, has_logits=False)
    targets = {target for _, target in facts.languages}
    loaded.model.generation_config, inherited = merged_generation_config(loaded, recipe.generation, targets)
    notes += [*inherited.notes(), *language_notes(loaded, facts.languages)]
    for note in notes:
        report(Note(message=note))
    shift = movement(bank, name)
    rows = proof_rows(loaded, recipe, examples, facts.languages)
    with bank.hold():
        merge = TensorMerge(bank, name)
        hashes, of_files = _write(loaded, merge, wanted, facts, staged / MODEL, stop)
    found = _reload(loaded, merge, hashes, rows, staged, report, stop)
    proof = WeightProof(
        num_merged=merge.num_linears,
        weight_error=merge.largest_error,
        num_tensors=len(hashes),
        num_same_encodings=found.num_same_encodings,
        num_encodings=len(rows.texts),
        flag_matters=found.flag_matters,
        rounding_beside_update=None if wanted == torch.float32 else merge.rounding_beside_update,
    )
    said = [*of_files, *shards_remarks(proof, chosen.value)]
    for note in said:
        report(Note(message=note))
    summary: MergeSummary = {
        "folder": str(out),
        "experiment": name,
        "dtype": chosen.value,
        "dtype_reason": chosen.reason,
        "movement": shift.total,
        "generation": inherited.as_dict(),
        "shard_by_shard": True,
        "proof": asdict(proof),
        "notes": [*notes, *said],
    }
    scale = loaded.family.output_scale(loaded.model.config)
    card = merged_card(
        facts,
        summary,
        shards_figures(summary),
        proof_text(),
        family=loaded.family,
        logit_scale=scale,
        flag_matters=proof.flag_matters,
    )
    write_bytes(staged / MODEL / README, card.encode())
    return {**summary, "bytes": publish(staged / MODEL, out, stop)}


def _check_computed(base: Base, dtype: torch.dtype) -> None:
    """Refuse weights that are in none of the base's files and were computed in neither float32 nor `dtype`.

    Raises:
        ModelError: the model has such weights.
    """
    exact = {torch.float32, dtype}
    state = base.model.state_dict()
    rounded = [name for name, each in state.items() if not is_mapped(each) and each.dtype not in exact]
    if rounded:
        raise ModelError(
            Message(
                "the base has weights that are in none of its files; transformers computes them in the "
                "dtype of the others"
            ),
            where=base.name,
            found=rounded[0],
            fix=Message(
                "Merge it with `--dtype {dtype}`, or in memory with `--whole-base`.",
                dtype=str(base.model.dtype).removeprefix("torch."),
            ),
        )


def _write(
    base: Base, merge: TensorMerge, dtype: torch.dtype, facts: Facts, folder: Path, stop: StopRequest
) -> tuple[dict[str, str], list[str]]:
    """Write the folder, merging each tensor as it is written.

    Returns:
        The hash of each tensor, by each of its names in the model, and notes on what differs from the base's
        folder.

    Raises:
        RunError: a file could not be written.
        ModelError: the base's files store a tensor in a different form from the model, so it was not merged.
    """
    plan = plan_shards(base.model, dtype)
    names = names_by_place(base.model.state_dict())
    hashes: dict[str, str] = {}

    def pieces(key: str) -> Iterator[Tensor]:
        stop_if_asked(stop)
        return merge.pieces(plan.tensors[key], dtype)

    try:
        _write_settings(base, dtype, folder)
        for file, keys in plan.files.items():
            found = write_tensors(folder / file, {key: plan.sizes[key] for key in keys}, pieces)
            for key, digest in found.items():
                hashes |= dict.fromkeys(names.get(plan.tensors[key].data_ptr(), []), digest)
        plan.write_index(folder)
        notes = [*copy_tokenizer(base, folder), *set_languages(base, folder, facts.languages)]
    except OSError as error:
        raise RunError(
            Message("the merged model could not be written"),
            where=str(folder.parent),
            found=str(error).split("\n")[0],
        ) from None
    if merge.num_waiting or len(hashes) < len(base.model.state_dict()):
        raise ModelError(
            Message(
                "the base's files store weights in a different form from the model, so it cannot be merged "
                "shard by shard"
            ),
            where=base.name,
            fix=Message("Merge it on a machine with enough memory, with `--whole-base`."),
        )
    return hashes, notes


def _write_settings(base: Base, dtype: torch.dtype, folder: Path) -> None:
    """Write config.json and generation_config.json as `save_pretrained` does."""
    config = base.model.config
    for key in config.sub_configs:  # those of a base that is loaded in float32, as for merging in memory
        if (own := getattr(config, key, None)) is not None:
            own.dtype = "float32"
    config.dtype = str(dtype).removeprefix("torch.")
    config.architectures = [type(base.model).__name__]
    config.save_pretrained(folder)
    base.model.generation_config.save_pretrained(folder)


def _reload(
    base: Base,
    merge: TensorMerge,
    hashes: dict[str, str],
    rows: ProofRows,
    staged: Path,
    report: Report,
    stop: StopRequest,
) -> LoadedFolder:
    """Check that plain transformers, in a new process, loads what was merged, and the run's tokenizer.

    Raises:
        ModelError: transformers loads other weights, or its tokenizer gives different tokens from the run's.
        Interrupted: a stop was requested.
    """
    said = Message(
        "merged {num_modules} linears; a new process is now verifying the folder",
        num_modules=merge.num_linears,
    )
    report(Note(message=said))
    write_question(staged / PROOF, rows, {})
    run_module(weight_hashes.__name__, (staged / MODEL, staged / PROOF), staged / PROOF, stop)
    found = LoadedFolder(**json.loads((staged / PROOF / MEASURED).read_text(encoding="utf-8")))
    names = hashes.keys() | found.hashes.keys()
    different = sorted(name for name in names if hashes.get(name) != found.hashes.get(name))
    if wrong := [*found.missing, *found.unexpected, *different]:
        raise proof_failed(
            Message(
                "as loaded by plain transformers, {num_wrong} weights are missing, unexpected or changed",
                num_wrong=len(wrong),
            ),
            found=wrong[0],
        )
    check_tokenizer(found.num_same_encodings, rows)
    return found
