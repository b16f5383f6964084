"""merge: merge an adapter into its base; the new folder is verified before it appears at its final path."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from loraloom.bank.bank import AdapterBank
from loraloom.bank.peft_conversion import check_not_converted
from loraloom.bank.peft_folder import read_adapter
from loraloom.commands.card import adapter_facts
from loraloom.data.example import Example
from loraloom.data.splitting.split import Split, split_examples
from loraloom.errors import DataError
from loraloom.export.merge_text import MergeDocument
from loraloom.export.merge_way import choose_shards
from loraloom.export.merged_folder import write_merged
from loraloom.export.proof import choose_rows
from loraloom.export.shards_folder import write_by_shards
from loraloom.export.staging import check_out, staged_beside
from loraloom.export.transformers_folder import check_dtype
from loraloom.recipe import Recipe
from loraloom.recipe.schema import UNQUANTIZED
from loraloom.run.documents.provenance import Provenance
from loraloom.run.events import Report, quiet
from loraloom.run.folder import Run, open_run
from loraloom.session import provenance as origin
from loraloom.session.adapter_folders import attach, find_adapters, foreign_facts
from loraloom.session.adapter_names import one_adapter
from loraloom.session.answering_model import load_run_base
from loraloom.session.locations import Relocation, explain_base_location, relocated
from loraloom.session.material import TO_MERGE, TO_MERGE_BY_SHARDS, base_path, model_type_of
from loraloom.session.quantized_run import describe, loss_as_trained, loss_on
from loraloom.text.message import Message
from loraloom.training.signals import StopRequest, stop_on_signals


def merge(
    run: Path,
    out: Path,
    *,
    experiment: str | None = None,
    dtype: str | None = None,
    shard_by_shard: bool | None = None,
    base: Path | None = None,
    data: Path | None = None,
    report: Report = quiet,
    stop: StopRequest | None = None,
) -> MergeDocument:
    """Write base and adapter as one plain transformers folder, and verify it.

    Args:
        run: the run directory.
        out: the folder to create; it must not exist.
        experiment: the adapter's experiment; may be omitted if the run has only one.
        dtype: dtype to save in, `float32`, `bfloat16` or `float16`; by default that of the base's own files.
        shard_by_shard: merge one tensor at a time, and verify without generating answers; by default only
            if the base does not fit in memory.
        base, data: current locations of the run's base (a folder) and data (a folder or file), if they were
            moved; they must be unchanged.
        report: called with progress and notes.
        stop: cancellation token; without one, SIGINT and SIGTERM request a stop.

    Returns:
        `{"folder", "experiment", "dtype", "dtype_reason", "bytes", "movement", "generation",
            "shard_by_shard", "proof", "notes"}`;
        `generation` describes what became of the settings in the base's generation_config.json.

    Raises:
        RunError: the run has no such adapter, `out` exists, or there is too little disk space.
        AdapterError: the adapter is damaged or belongs to another base.
        ModelError: the dtype is unusable, or the verification failed; nothing is left at `out`.
        Interrupted: a stop was requested; nothing is left at `out`.
    """
    opened = open_run(run)
    recipe, known = origin.run_recipe(opened)
    recipe, moved = relocated(opened, recipe, known, Relocation(base, data))
    name, notes = one_adapter(opened, recipe, experiment, usage=["merge", str(run), str(out)])
    check_out(out)
    adapter = read_adapter(opened.adapters / name)  # before the base, which takes longer
    check_dtype(dtype, adapter.origin.get("model_type"))
    facts = adapter_facts(opened, name)
    split, about_rows = run_rows(opened, recipe, known)
    with explain_base_location(recipe, known):
        by_shards, about_way = _choose_way(recipe, shard_by_shard, opened.adapters / name)
    write = write_by_shards if by_shards else write_merged
    with stop_on_signals(stop) as stop, staged_beside(out) as staged:
        rows = choose_rows(split)
        bank, of_adapter = load_with_adapter(
            recipe, known, opened.adapters / name, name, rows, by_shards=by_shards
        )
        notes = [*notes, *moved, *about_rows, *about_way, *of_adapter]
        return write(bank, facts, rows, dtype, out, staged, notes, report, stop)


def merge_foreign(
    base: str | Path,
    adapter: str | Path,
    out: Path,
    *,
    dtype: str | None = None,
    shard_by_shard: bool | None = None,
    data: Path | None = None,
    sets: Sequence[str] = (),
    report: Report = quiet,
    stop: StopRequest | None = None,
) -> MergeDocument:
    """Merge an adapter that belongs to no run.

    Args:
        base: a folder, a hub name, or `starter`.
        adapter: a folder in PEFT's format.
        out, dtype, shard_by_shard, report, stop: as in `merge`.
        data: rows to verify with; without them, random tokens are used.
        sets: settings of `data` and `generation`, each as `key=value`; the merged folder stores them.

    Returns:
        As in `merge`.

    Raises:
        LoRALoomError: the base, the adapter or the rows are unusable, `out` exists, or the verification
            failed.
        Interrupted: a stop was requested; nothing is left at `out`.
    """
    given = find_adapters(base, [adapter], data=data, sets=sets, merges=True)
    (name,) = given.folders
    check_out(out)
    check_dtype(dtype, None if dtype is None else model_type_of(given.recipe))
    split = None if data is None else split_examples(given.recipe.data)
    about_rows = [Message("no rows are given, so the proof uses random tokens")] if split is None else []
    by_shards, about_way = _choose_way(given.recipe, shard_by_shard, given.folders[name])
    write = write_by_shards if by_shards else write_merged
    with stop_on_signals(stop) as stop, staged_beside(out) as staged:
        choices = TO_MERGE_BY_SHARDS if by_shards else TO_MERGE
        bank, adapters, of_adapter = attach(given.recipe, given.folders, choices)
        facts = foreign_facts(given.recipe, name, adapters[name], bank.base)
        notes = [*given.notes, *about_rows, *about_way, *of_adapter]
        return write(bank, facts, choose_rows(split), dtype, out, staged, notes, report, stop)


def _choose_way(recipe: Recipe, wanted: bool | None, adapter: Path) -> tuple[bool, list[str]]:
    """Choose whether to merge shard by shard; return the choice, and notes for the user on it.

    Raises:
        ModelError: the base's files do not allow merging shard by shard.
        AdapterError: the adapter does not allow it.
    """
    by_shards, notes = choose_shards(base_path(recipe), recipe.model_name_or_path, wanted)
    if by_shards:
        check_not_converted(adapter)
    return by_shards, notes


def run_rows(run: Run, recipe: Recipe, known: Provenance) -> tuple[Split | None, list[str]]:
    """Return the run's split for the proof; if it is unavailable, return None and a note with the reason."""
    try:
        return origin.run_split(run, recipe, known), []
    except DataError as error:
        why = error.problems[0].as_message()
        return None, [
            Message("the run's rows are not available, so the proof uses random tokens: {why}", why=why)
        ]


def load_with_adapter(
    recipe: Recipe,
    known: Provenance,
    adapter_folder: Path,
    name: str,
    examples: Sequence[Example] = (),
    *,
    by_shards: bool = False,
) -> tuple[AdapterBank, tuple[str, ...]]:
    """Load a run's base in float32 on the CPU, whatever its dtype in training, with an adapter attached.

    Args:
        recipe, known: recipe and provenance of the run.
        adapter_folder, name: folder and name of the adapter.
        examples: rows for the proof; if the run trained on a quantized base, the adapter's loss on these rows
            is compared between the quantized base and the original one.
        by_shards: leave the base's weights in its files, in their dtype; losses are then not compared.

    Returns:
        The bank, and notes on the adapter and on the effect of the quantization.
    """
    answered = [] if by_shards else [example for example in examples if example.response]
    trained = loss_as_trained(recipe, known, adapter_folder, name, answered)
    base = load_run_base(recipe, known, TO_MERGE_BY_SHARDS if by_shards else TO_MERGE)
    adapter = read_adapter(adapter_folder, base)
    bank = AdapterBank(base)
    bank.attach(name, adapter.settings, seed=0, tensors=adapter.tensors)
    if recipe.quantization == UNQUANTIZED:
        return bank, adapter.notes
    original = None if trained is None else loss_on(bank, name, recipe, answered)
    said = describe(recipe.quantization, trained, original, len(answered))
    return bank, (*adapter.notes, said)
