"""Functions that generate answers for rows of data: compare, predict."""

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
    source_lang: str | None = None,
    target_lang: str | None = None,
    spbleu_model: Path | str | None = None,
    out: Path | str | None = None,
    report: Report = quiet,
    stop: StopRequest | None = None,
) -> CompareResult:
    """Answer the same rows with the base and its adapters in one pass.

    Args:
        run: the run directory; None for adapters without a run.
        adapters: folders of adapters in PEFT's format, each optionally as `NAME=FOLDER`, for the base `base`.
        split: the rows to answer; by default `test` if the run has test rows, else `eval`.
        prompts, prompts_file: other rows to answer instead, as text or in a file.
        experiments: experiments whose adapters answer; by default all.
        name: name of the results in the run's `compare/`; by default `test`, `eval`, `prompts`, `prompts-2`…
        base, data: current location of the run's base and data, if they were moved; with `adapters`, their
            base and a file of rows with known answers.
        sets, out: only with `adapters`: settings of `generation` and `data`, each as `key=value`; and the
            JSON file to write the answers to.
        source_lang, target_lang: languages of the rows and of the answers, for a multilingual base, if they
            differ from those in training.
        spbleu_model: a sentencepiece model, to compute spBLEU too.
        report: called with progress: `report(AnswerProgress(done=…, total=…))`.
        stop: if it is set, the answers so far are kept, and repeating the call resumes the comparison.

    Raises:
        TypeError: an argument is missing, or arguments for a run and for adapters without a run are mixed.
        LoRALoomError: the run, its data or its adapters are unusable.
        Interrupted: `stop` was set.
    """
    from loraloom.commands.compare import compare as run_comparison
    from loraloom.commands.compare import compare_adapters

    if run is None:
        if split or experiments or name:
            raise TypeError("split, experiments and name require a run")
        return CompareResult.of(
            compare_adapters(
                given_base(base, adapters),
                adapters,
                data=as_path(data),
                prompts=prompts,
                prompts_file=as_path(prompts_file),
                sets=sets,
                source_lang=source_lang,
                target_lang=target_lang,
                spbleu_model=as_path(spbleu_model),
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
            source_lang=source_lang,
            target_lang=target_lang,
            spbleu_model=as_path(spbleu_model),
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
    source_lang: str | None = None,
    target_lang: str | None = None,
    report: Report = quiet,
    stop: StopRequest | None = None,
) -> Iterator[Answer]:
    """Answer every row of a file.

    Args:
        run: the run directory; None for an adapter without a run.
        adapter: folder of an adapter in PEFT's format, for the base `base`.
        file: a data file, a text file with one prompt per line, or a folder or glob pattern of such files.
        experiment: experiment whose adapter answers; `base` for the base.
        keep: columns to keep with the answers, besides the id column.
        base: current location of the run's base, if it was moved; with `adapter`, its base.
        sets: with `adapter`: settings of `generation` and `data`, each as `key=value`.
        source_lang, target_lang: languages of the rows and of the answers, for a multilingual base, if they
            differ from those in training.
        report: called with progress.
        stop: if it is set, the iterator raises `Interrupted`.

    Yields:
        The answers, in the order of the file, each as soon as it is generated. The run and the file are
        read when the function is called, before the first answer is requested.

    Raises:
        TypeError: an argument is missing, or arguments for a run and for an adapter without a run are mixed.
        LoRALoomError: the run or the file is unusable.
        Interrupted: `stop` was set.
    """
    from loraloom.commands.predict import predict as run_prediction
    from loraloom.commands.predict import predict_with_adapter

    if run is None:
        given = given_base(base, adapter)
        assert adapter is not None
        lines = predict_with_adapter(
            given,
            adapter,
            Path(file),
            keep=keep,
            source_lang=source_lang,
            target_lang=target_lang,
            sets=sets,
            report=report,
            stop=token(stop),
        )
        return map(Answer.from_json, lines)
    refuse_beside_run(adapter, sets)
    lines = run_prediction(
        Path(run),
        Path(file),
        experiment=experiment,
        keep=keep,
        base=as_path(base),
        source_lang=source_lang,
        target_lang=target_lang,
        report=report,
        stop=token(stop),
    )
    return map(Answer.from_json, lines)
