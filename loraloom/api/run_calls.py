"""Functions for existing runs: merge, export, card, push, report, and the list of runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from loraloom.api.arguments import as_path, given_base, refuse_beside_run, token
from loraloom.results import CardResult, ExportResult, MergeResult, PushResult, RunSummary
from loraloom.run.events import Report, quiet
from loraloom.run.folder import RUNS_FOLDER
from loraloom.training.signals import StopRequest


def merge(
    run: Path | str | None,
    out: Path | str,
    *,
    adapter: Path | str | None = None,
    experiment: str | None = None,
    dtype: Literal["float32", "bfloat16", "float16"] | None = None,
    shard_by_shard: bool | None = None,
    base: Path | str | None = None,
    data: Path | str | None = None,
    sets: Sequence[str] = (),
    report: Report = quiet,
    stop: StopRequest | None = None,
) -> MergeResult:
    """Merge an adapter into its base, save the result as a plain transformers folder, and verify it.

    Args:
        run: the run directory; None for an adapter without a run.
        out: the folder to create; it must not exist.
        adapter: folder of an adapter in PEFT's format, for the base `base`.
        experiment: experiment of the adapter; may be omitted if the run has only one.
        dtype: dtype to save in, by default that of the base's files; float16 is refused for T5 and T5Gemma.
        shard_by_shard: whether to merge one tensor at a time, and verify only the weights, not answers; by
            default, only if the base does not fit in memory.
        base, data: current location of the run's base and data, if they were moved; with `adapter`, its base
            and rows to verify with.
        sets: with `adapter`: settings of `generation` and `data`, each as `key=value`.
        report: called with progress and notes.
        stop: if it is set, nothing is left at `out`.

    Raises:
        TypeError: an argument is missing, or arguments for a run and for an adapter without a run are mixed.
        LoRALoomError: the run, adapter or base is unusable, `out` exists, or the verification failed.
        Interrupted: `stop` was set.
    """
    from loraloom.commands.merge import merge as run_merge
    from loraloom.commands.merge import merge_foreign

    rows, stopping = as_path(data), token(stop)
    if run is None:
        given = given_base(base, adapter)
        assert adapter is not None
        made = merge_foreign(
            given,
            adapter,
            Path(out),
            sets=sets,
            dtype=dtype,
            shard_by_shard=shard_by_shard,
            data=rows,
            report=report,
            stop=stopping,
        )
    else:
        refuse_beside_run(adapter, sets)
        made = run_merge(
            Path(run),
            Path(out),
            experiment=experiment,
            base=as_path(base),
            dtype=dtype,
            shard_by_shard=shard_by_shard,
            data=rows,
            report=report,
            stop=stopping,
        )
    return MergeResult(
        folder=Path(made["folder"]),
        experiment=made["experiment"],
        dtype=made["dtype"],
        dtype_reason=made["dtype_reason"],
        num_bytes=made["bytes"],
        movement=made["movement"],
        shard_by_shard=made["shard_by_shard"],
        proof=made["proof"],
        notes=tuple(made["notes"]),
    )


def write_export(
    run: Path | str | None,
    out: Path | str,
    format: str,
    *,
    quantization: str | None = None,
    adapter_only: bool = False,
    adapter: Path | str | None = None,
    experiment: str | None = None,
    base: Path | str | None = None,
    data: Path | str | None = None,
    prompts: Path | str | None = None,
    sets: Sequence[str] = (),
    report: Report = quiet,
    stop: StopRequest | None = None,
) -> ExportResult:
    """Export an adapter to another program's format, and verify the export with that program.

    Args:
        run: the run directory; None for an adapter without a run.
        out: the folder to create; it must not exist.
        format: `transformers`, `peft`, `ctranslate2`, `onnx` or `gguf`.
        quantization: one that the format supports; by default the lossless one.
        adapter_only: export the adapter without its base, if the format supports that.
        adapter: folder of an adapter in PEFT's format, for the base `base`.
        experiment: experiment of the adapter; may be omitted if the run has only one.
        base, data: current location of the run's base and data, if they were moved; with `adapter`, its base
            and rows to verify with.
        prompts: file of other rows to verify with, whether or not their answers are known.
        sets: with `adapter`: settings of `generation` and `data`, each as `key=value`.
        report: called with progress and notes.
        stop: if it is set, nothing is left at `out`.

    Raises:
        TypeError: an argument is missing, or arguments for a run and for an adapter without a run are mixed.
        LoRALoomError: the run, adapter or base is unusable, `out` exists, the format cannot represent the
            model, a package is missing, or the verification failed.
        Interrupted: `stop` was set.
    """
    from loraloom.commands.export import export, export_foreign

    rows, stopping = as_path(data), token(stop)
    if run is None:
        given = given_base(base, adapter)
        assert adapter is not None
        made = export_foreign(
            given,
            adapter,
            Path(out),
            format=format,
            quantization=quantization,
            adapter_only=adapter_only,
            data=rows,
            prompts=as_path(prompts),
            sets=sets,
            report=report,
            stop=stopping,
        )
    else:
        refuse_beside_run(adapter, sets)
        made = export(
            Path(run),
            Path(out),
            format=format,
            quantization=quantization,
            adapter_only=adapter_only,
            experiment=experiment,
            base=as_path(base),
            data=rows,
            prompts=as_path(prompts),
            report=report,
            stop=stopping,
        )
    return ExportResult(
        folder=Path(made["folder"]),
        experiment=made["experiment"],
        format=made["format"],
        quantization=made["quantization"],
        num_bytes=made["bytes"],
        movement=made["movement"],
        proof=made["proof"],
        notes=tuple(made["notes"]),
    )


def card(
    run: Path | str | None = None,
    *,
    experiment: str | None = None,
    out: Path | str | None = None,
    base: Path | str | None = None,
    adapter: Path | str | None = None,
    report: Report = quiet,
) -> CardResult:
    """Write a model card for one adapter.

    Args:
        run: the run directory; None for an adapter without a run.
        experiment: experiment of the adapter; may be omitted if the run has only one.
        out: the file to write, replaced if it exists.
        base, adapter: without a run: the base, and the folder of its adapter in PEFT's format.
        report: called with notes.

    Raises:
        TypeError: an argument is missing, or arguments for a run and for an adapter without a run are mixed.
        LoRALoomError: the folder is not a run, the run has no such adapter, the base or adapter is unusable,
            or the file cannot be written.
    """
    from loraloom.commands.card import card as make_card
    from loraloom.commands.card import card_foreign

    if run is None:
        given = given_base(base, adapter)
        assert adapter is not None
        made = card_foreign(given, adapter, out=as_path(out), report=report)
    else:
        refuse_beside_run(base, adapter)
        made = make_card(Path(run), experiment=experiment, out=as_path(out))
    return CardResult(made["experiment"], made["card"], as_path(made["file"]))


def push(
    run: Path | str,
    repository: str,
    *,
    experiment: str | None = None,
    folder: Path | str | None = None,
    base_model: str | None = None,
    public: bool = False,
    send: bool = False,
    report: Report = quiet,
) -> PushResult:
    """Send an adapter, merged model or export to the hub; by default, only report what would be sent.

    Args:
        run: the run directory.
        repository: `owner/name`.
        experiment: experiment of the adapter; may be omitted if the run has only one.
        folder: a folder that `merge` or `write_export` wrote; by default the adapter itself is sent.
        base_model: the base's name on the hub, if the recipe names a local folder.
        public: whether a new repository is public.
        send: whether to send; otherwise the hub is not contacted.
        report: called with notes.

    Raises:
        LoRALoomError: the run or the folder is unusable, or the hub cannot be reached or refuses the files.
    """
    from loraloom.commands.push import push as run_push

    made = run_push(
        Path(run),
        repository,
        experiment=experiment,
        folder=as_path(folder),
        base_model=base_model,
        is_public=public,
        sends=send,
        report=report,
    )
    files = {file["path"]: file["bytes"] for file in made["files"]}
    named, notes = made["experiment"], tuple(made["notes"])
    return PushResult(repository, named, files, made["card"], made["url"], notes)


def write_report(
    run: Path | str,
    format: Literal["html", "md", "json", "csv", "recipe"] = "html",
    *,
    out: Path | str | None = None,
    comparison: str | None = None,
    report: Report = quiet,
) -> Path:
    """Write the results of a run to one file, like the command `loraloom report`.

    Args:
        run: the run directory; it may be unfinished.
        format: format of the file; `recipe` writes only the recommended recipe.
        out: the file; by default `report.FORMAT` in the run, or `recommended.yaml` for `recipe`.
        comparison: name of the comparison; by default the newest on test rows, else on eval rows or prompts.
        report: called with notes.

    Returns:
        The path of the file.

    Raises:
        LoRALoomError: the folder is not a run, or the file cannot be written.
    """
    from loraloom.commands.report import write_report as write

    return write(Path(run), format, as_path(out), comparison, report)


def runs(folder: Path | str = RUNS_FOLDER) -> tuple[RunSummary, ...]:
    """List the runs in a folder, oldest first."""
    from loraloom.commands.runs import describe_runs

    return tuple(
        RunSummary(
            run=Path(row["run"]),
            status=row["status"],
            experiments=tuple(filter(None, row["experiments"].split(", "))),
            started=row["started"],
            base=row["base"],
        )
        for row in describe_runs(Path(folder))
    )
