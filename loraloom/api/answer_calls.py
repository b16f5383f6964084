"""What runs and adapters answer: compare, predict."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from loraloom.api.arguments import as_path, given_base, refuse_beside_run, token
from loraloom.results import Answer, CompareResult
from loraloom.run.events import Report, quiet
from loraloom.training.signals import StopRequest


def compare(
    run: Path | str | None = None,
    *,
    adapters: Sequence[Path | str] = (),
    split: Literal["eval", "test"] | None = None,
    prompts: Sequence[str] = (),
    prompts_file: Path | str | None = None,
    experiments: Sequence[str] | None = None,
    name: str | None = None,
    base: Path | str | None = None,
    data: Path | str | None = None,
    sets: Sequence[str] = (),
    out: Path | str | None = None,
    report: Report = quiet,
    stop: StopRequest | None = None,
) -> CompareResult:
    """Let base and adapters answer the same rows in one pass.

    Args:
        run: the run directory; None for adapters that belong to no run.
        adapters: these, as folders of PEFT's format, with or without `NAME=` in front, on the base `base`.
        split: whose rows; `test` if the run has one, else `eval`.
        prompts, prompts_file: other rows instead, from text or a file.
        experiments: whose adapters; by default all.
        name: of the file in the run's `compare/`; by default what was compared.
        base, data: where the run's base and data are now, if they were moved; with `adapters`, their base,
            and a file of rows with known answers.
        sets, out: with `adapters`: `key=value` of `generation` and `data`, and a JSON file for the answers.
        report: told of progress, `report(AnswerProgress(done=…, total=…))`.
        stop: if it is set, the answers so far are kept, and the same call resumes the comparison.

    Raises:
        LoRALoomError: the run, its data or its adapters are not usable.
        Interrupted: `stop` was set.
    """
    from loraloom.commands.compare import compare as run_comparison
    from loraloom.commands.compare import compare_adapters

    if run is None:
        if split or experiments or name:
            raise TypeError("split, experiments and name say something of a run")
        return CompareResult.of(
            compare_adapters(
                given_base(base, adapters),
                adapters,
                data=as_path(data),
                prompts=prompts,
                prompts_file=as_path(prompts_file),
                sets=sets,
                out=as_path(out),
                report=report,
                stop=token(stop),
            )
        )
    refuse_beside_run(adapters, sets, out)
    return CompareResult.of(
        run_comparison(
            Path(run),
            split=split,
            prompts=prompts,
            prompts_file=as_path(prompts_file),
            experiments=experiments,
            name=name,
            base=as_path(base),
            data=as_path(data),
            report=report,
            stop=token(stop),
        )
    )


def predict(
    run: Path | str | None,
    file: Path | str,
    *,
    adapter: Path | str | None = None,
    experiment: str | None = None,
    keep: Sequence[str] = (),
    base: Path | str | None = None,
    sets: Sequence[str] = (),
    report: Report = quiet,
    stop: StopRequest | None = None,
) -> Iterator[Answer]:
    """Answer every row of a file.

    Args:
        run: the run directory; None for an adapter that belongs to no run.
        adapter: that one, as a folder of PEFT's format, on the base `base`.
        file: a data file, a text file with a prompt a line, or a folder or pattern of them.
        experiment: whose adapter answers; `base` for the base.
        keep: columns to keep beside the answers, besides an id.
        base: where the run's base is now, if it was moved; with `adapter`, its base.
        sets: with `adapter`: `key=value` of `generation` and `data`.
        report: told of progress.
        stop: if it is set, the iterator raises.

    Yields:
        Answers in the file's order, as they come. The run and the file are read before the first.

    Raises:
        LoRALoomError: the run or the file is not usable.
        Interrupted: `stop` was set.
    """
    from loraloom.commands.predict import predict as run_prediction
    from loraloom.commands.predict import predict_with_adapter

    if run is None:
        given = given_base(base, adapter)
        assert adapter is not None
        lines = predict_with_adapter(
            given, adapter, Path(file), keep=keep, sets=sets, report=report, stop=token(stop)
        )
        return map(Answer.from_json, lines)
    refuse_beside_run(adapter, sets)
    lines = run_prediction(
        Path(run),
        Path(file),
        experiment=experiment,
        keep=keep,
        base=as_path(base),
        report=report,
        stop=token(stop),
    )
    return map(Answer.from_json, lines)
