"""compare: answer the same rows with the base and its adapters in one pass, and compare the answers.

Answers are stored as they are generated (`comparison/partial_answers.py`), so that an interrupted comparison
can be resumed; the finished `compare/<name>.json` replaces them. A lock ensures that only one process writes
a comparison of a given name; other comparisons, and training, may run at the same time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from loraloom.base.tokenizer_loading import control_names
from loraloom.comparison.answering import answers_of, report_answers, target_ids
from loraloom.comparison.compared_figures import with_figures
from loraloom.comparison.compared_rows import (
    SplitName,
    prompts_asked,
    retained_rows,
    rows_given,
    rows_of_part,
)
from loraloom.comparison.comparison_file import alone, checked_name, free_name, kept_at
from loraloom.data.encoding import describe_cuts, encode_sources
from loraloom.data.files.part_files import PartContents
from loraloom.data.languages.codes import pair_name
from loraloom.data.prompts.prompts import Prompt
from loraloom.data.sources.control_tokens import controls_in, describe_controls
from loraloom.evaluate.metrics import Metric
from loraloom.evaluate.spbleu import given_metrics
from loraloom.recipe.schema import UNQUANTIZED
from loraloom.report.unfinished_comparisons import partial_file
from loraloom.run.atomic import replace_text
from loraloom.run.documents.comparison import (
    FORMAT,
    ComparedRow,
    Comparison,
)
from loraloom.run.events import Note, Report, quiet
from loraloom.run.folder import now, open_run
from loraloom.session import provenance as origin
from loraloom.session.adapter_folders import find_adapters, load_adapters
from loraloom.session.answer_languages import in_languages, with_languages
from loraloom.session.answering_model import AnsweringModel, load_run
from loraloom.session.answering_ranks import ALONE, AnsweringRanks
from loraloom.session.locations import Relocation, relocated
from loraloom.text.message import Message
from loraloom.training.signals import StopRequest

_OPTIMISTIC = Message(
    "these rows also selected the checkpoints, so the figures are optimistic; rows in `data.test` are "
    "never used for selection"
)


def compare(
    run: Path,
    *,
    split: SplitName | None = None,
    prompts: Sequence[str] = (),
    prompts_file: Path | None = None,
    experiments: Sequence[str] | None = None,
    name: str | None = None,
    base: Path | None = None,
    data: Path | None = None,
    source_lang: str | None = None,
    target_lang: str | None = None,
    spbleu_model: Path | None = None,
    report: Report = quiet,
    stop: StopRequest | None = None,
    ranks: AnsweringRanks = ALONE,
) -> Comparison:
    """Answer the same rows with the base and adapters of a run; write `compare/<name>.json` in it.

    Args:
        run: the run directory.
        split: part whose rows to answer; by default `test` if the run has test rows, otherwise `eval`.
        prompts, prompts_file: other rows to answer instead, as texts or in a file.
        experiments: experiments whose adapters answer; all by default.
        name: name of the file, without the suffix; by default `test`, `eval` or `prompts`.
        base, data: current locations of the run's base and data (a folder or file), if they were moved.
        source_lang, target_lang: languages of the rows and of the answers, for a multilingual base, if they
            differ from those in training.
        spbleu_model: a sentencepiece model, for spBLEU, which is not computed without one.
        report: called with progress.
        stop: cancellation token; without one, SIGINT and SIGTERM request a stop.
        ranks: the processes that share the work, with this process as the leader.

    Returns:
        The comparison as stored; `file` is its path.

    Raises:
        LoRALoomError: the run, its data or its adapters are unusable, or another process is writing this
            comparison.
        Interrupted: a stop was requested; the same call resumes the comparison.
    """
    more = given_metrics(spbleu_model)
    opened = open_run(run)
    recipe, known = origin.run_recipe(opened)
    recipe, moved = relocated(opened, recipe, known, Relocation(base, data))
    recipe = in_languages(recipe, source_lang, target_lang)
    if prompts or prompts_file is not None:
        rows, what = prompts_asked(recipe, split, prompts, prompts_file, report), "prompts"
    else:
        rows, what = rows_of_part(opened, recipe, known, split)
    retained = retained_rows(opened, recipe, known, what, report)
    name = checked_name(name) if name else free_name(opened, what, rows, report)
    with alone(opened.comparisons, name):
        then = now()  # training that continues from here on is not in the adapters that answer
        loaded = load_run(run, experiments, recipe=recipe, ranks=ranks)
        for note in [*moved, *loaded.notes]:
            report(Note(message=note))
        return _compare(loaded, rows, retained, what, name, then, more, report, stop)


def compare_adapters(
    base: str | Path,
    adapters: Sequence[str | Path],
    *,
    data: Path | None = None,
    prompts: Sequence[str] = (),
    prompts_file: Path | None = None,
    sets: Sequence[str] = (),
    source_lang: str | None = None,
    target_lang: str | None = None,
    spbleu_model: Path | None = None,
    out: Path | None = None,
    report: Report = quiet,
    stop: StopRequest | None = None,
    ranks: AnsweringRanks = ALONE,
) -> Comparison:
    """Answer the same rows with a base and adapters that belong to no run.

    Args:
        base: a folder, a hub name, or `starter`.
        adapters: folders in PEFT's format, each with or without `NAME=` in front.
        data: rows whose known answers the generated answers are compared with.
        prompts, prompts_file: other rows to answer instead, as texts or in a file.
        sets: settings of `data` and `generation`, `dtype`, `quantization`, `device` or `seed`, each as
            `key=value`.
        source_lang, target_lang, spbleu_model: as in `compare`.
        out: the JSON file to store the comparison in; without one, it is not stored.
        report, stop, ranks: as in `compare`.

    Returns:
        As in `compare`; `file` is empty if the comparison is not stored.

    Raises:
        LoRALoomError: the base, the adapters or the rows are unusable.
        Interrupted: a stop was requested; with `out`, the same call resumes the comparison.
    """
    more = given_metrics(spbleu_model)
    given = find_adapters(base, adapters, data=data, sets=sets)
    given = replace(given, recipe=in_languages(given.recipe, source_lang, target_lang))
    rows, what = rows_given(given.recipe, data, prompts, prompts_file, report)
    with kept_at(out) as (folder, name):
        loaded = load_adapters(given, folder, ranks=ranks)
        for note in [*given.notes, *loaded.notes]:
            report(Note(message=note))
        result = _compare(loaded, rows, None, what, name, now(), more, report, stop)
    return result.model_copy(update={"file": "" if out is None else str(out)})


def _compare(
    loaded: AnsweringModel,
    rows: Sequence[Prompt],
    retained: PartContents | None,
    what: str,
    name: str,
    then: str,
    more: Mapping[str, Metric],
    report: Report,
    stop: StopRequest | None,
) -> Comparison:
    """Answer the rows, store the comparison, and return it."""
    limit = loaded.recipe.data.max_source_length
    rows, truncation = with_languages(loaded, rows, report), loaded.recipe.data.source_truncation
    sources, cuts = encode_sources(
        rows, loaded.base.tokenizer, limit, truncation, loaded.base.languages, loaded.base.frame
    )
    controls = control_names(loaded.base.tokenizer)
    of_controls = describe_controls([controls_in(ids, controls) for ids in sources])
    of_choice = _OPTIMISTIC if what == "eval" else ""
    for said in filter(None, (of_choice, describe_cuts("", cuts, limit), of_controls)):
        report(Note(message=said))
    targets = target_ids(loaded, rows)
    judged = [number for number, target in enumerate(targets) if target]
    answers = answers_of(loaded, rows, sources, targets, name, report, stop)
    report_answers(loaded, rows, answers, judged, report)
    file = loaded.comparisons / f"{name}.json"
    quantization = loaded.base.quantization
    of_base: dict[str, Any] = {} if quantization == UNQUANTIZED else {"quantization": quantization}
    result = Comparison(
        file=str(file),
        format=FORMAT,
        what=what,
        time=then,
        num_rows=len(rows),
        num_judged=len(judged) or len(rows),
        num_truncated_sources=int(cuts.astype(bool).sum()),
        took_part_in_a_choice=what == "eval",
        sentences=[],
        generation=loaded.recipe.generation.model_dump(),
        **of_base,
        models={},
        differences=[],
        signatures={},
        rows=[
            ComparedRow(
                source=row.source,
                reference=row.response,
                answers={model: own.texts[number] for model, own in answers.items()},
                **({"languages": pair_name(row)} if loaded.base.languages else {}),
            )
            for number, row in enumerate(rows)
        ],
    )
    result = with_figures(result, loaded, rows, answers, targets, retained, more)
    replace_text(file, result.text())
    partial_file(loaded.comparisons, name).unlink(missing_ok=True)
    return result
