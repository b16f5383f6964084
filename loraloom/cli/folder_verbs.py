"""Commands that write a base combined with an adapter to a folder: merge, export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from loraloom.cli.shared_options import (
    AsJson,
    MergeSets,
    MovedBase,
    MovedData,
    OneAdapter,
    OneExperiment,
    RunOrNone,
)
from loraloom.cli.verb_steps import (
    check_adapter_options,
    displayed,
    importing,
    print_json,
    refuse_sets_of_run,
)
from loraloom.text.message import Message
from loraloom.text.units import size


def merge(
    run: RunOrNone = None,
    out: Annotated[
        Path | None,
        typer.Argument(help=Message("The folder to create; it must not exist."), show_default=False),
    ] = None,
    experiment: OneExperiment = None,
    dtype: Annotated[
        str | None,
        typer.Option(
            help=Message(
                "float32, bfloat16 or, for families that support it (BART), float16; by default "
                "the dtype of the base's own files."
            )
        ),
    ] = None,
    shard_by_shard: Annotated[
        bool | None,
        typer.Option(
            "--shard-by-shard/--whole-base",
            help=Message(
                "Merge one tensor at a time, and verify the weights alone, without answers; --whole-base "
                "merges in memory, which must hold the base in float32. By default, merge in memory if "
                "the base fits."
            ),
            show_default=False,
        ),
    ] = None,
    base: MovedBase = None,
    data: MovedData = None,
    adapter: OneAdapter = None,
    sets: MergeSets = [],  # noqa: B006
    as_json: AsJson = False,
) -> None:
    """Merge an adapter into its base, write a plain transformers folder, and verify it."""
    if adapter is not None and out is None:
        run, out = None, run  # the only folder given is the one to create
    check_adapter_options(run, base, [adapter] if adapter else [], {"--experiment": experiment})
    refuse_sets_of_run(run, sets)
    if out is None:
        raise typer.BadParameter(Message("give the folder to create"))
    with displayed(as_json) as display:
        from loraloom.console import print_table

        with importing():
            from loraloom.commands.merge import merge as run_merge
            from loraloom.commands.merge import merge_foreign
        from loraloom.export.merge_text import figures
        from loraloom.export.shards_text import shards_figures

        if run is not None:
            merged = run_merge(
                run,
                out,
                experiment=experiment,
                dtype=dtype,
                shard_by_shard=shard_by_shard,
                base=base,
                data=data,
                report=display,
            )
        else:
            assert base is not None
            assert adapter is not None
            merged = merge_foreign(
                base,
                adapter,
                out,
                dtype=dtype,
                shard_by_shard=shard_by_shard,
                data=data,
                sets=sets,
                report=display,
            )
        if as_json:
            print_json(merged)
        else:
            print_table(
                (Message("merged"), merged["folder"]),
                [
                    (Message("size"), size(merged["bytes"])),
                    *(shards_figures if merged["shard_by_shard"] else figures)(merged),
                ],
            )
        display.next_command(
            Message('in Python: AutoModelForSeq2SeqLM.from_pretrained("{out}"); see {out}/README.md', out=out)
        )


def export(
    format: Annotated[
        str,
        typer.Option(
            "--format", help=Message("transformers, peft, ctranslate2, onnx or gguf."), show_default=False
        ),
    ],
    run: RunOrNone = None,
    out: Annotated[
        Path | None,
        typer.Argument(help=Message("The folder to create; it must not exist."), show_default=False),
    ] = None,
    quantization: Annotated[
        str | None,
        typer.Option(
            help=Message(
                "int8, int16, float16, bfloat16 or float32, if the format supports it; by default, one "
                "that loses nothing."
            )
        ),
    ] = None,
    adapter_only: Annotated[
        bool,
        typer.Option(
            "--adapter-only", help=Message("Export the adapter without its base, if the format allows it.")
        ),
    ] = False,
    experiment: OneExperiment = None,
    base: MovedBase = None,
    data: MovedData = None,
    prompts: Annotated[
        Path | None,
        typer.Option(
            help=Message(
                "Rows to verify the export with, instead of the run's rows: a data file, with or without "
                "answers, or a text file with one prompt per line."
            )
        ),
    ] = None,
    adapter: OneAdapter = None,
    sets: MergeSets = [],  # noqa: B006
    as_json: AsJson = False,
) -> None:
    """Export an adapter to another program's format, and verify it with that program."""
    if adapter is not None and out is None:
        run, out = None, run  # the only folder given is the one to create
    check_adapter_options(run, base, [adapter] if adapter else [], {"--experiment": experiment})
    refuse_sets_of_run(run, sets)
    if out is None:
        raise typer.BadParameter(Message("give the folder to create"))
    with displayed(as_json) as display:
        from loraloom.console import print_table

        with importing():
            from loraloom.commands.export import export as run_export
            from loraloom.commands.export import export_foreign
        from loraloom.export.export_text import result_figures

        if run is not None:
            made = run_export(
                run,
                out,
                format=format,
                quantization=quantization,
                adapter_only=adapter_only,
                experiment=experiment,
                base=base,
                data=data,
                prompts=prompts,
                report=display,
            )
        else:
            assert base is not None
            assert adapter is not None
            made = export_foreign(
                base,
                adapter,
                out,
                format=format,
                quantization=quantization,
                adapter_only=adapter_only,
                data=data,
                prompts=prompts,
                sets=sets,
                report=display,
            )
        if as_json:
            print_json(made)
        else:
            print_table(
                (Message("exported"), made["folder"]),
                [(Message("size"), size(made["bytes"])), *result_figures(made)],
            )
        display.next_command(Message("how to run it: {out}/README.md", out=out))
