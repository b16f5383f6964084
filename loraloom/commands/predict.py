"""predict: answer the rows of a file with one adapter, or with the base."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from loraloom.base.tokenizer_loading import control_names
from loraloom.data.encoding import describe_cuts, encode_sources
from loraloom.data.ownership import BASE
from loraloom.data.prompts.passthrough_columns import output_name
from loraloom.data.prompts.prompt_files import prompts_of_files
from loraloom.data.prompts.prompts import Prompt, read_prompts
from loraloom.data.sources.control_tokens import controls_in, describe_controls
from loraloom.evaluate.generation import cut_words
from loraloom.recipe import Recipe
from loraloom.run.documents.comparison import BASE_NAME
from loraloom.run.documents.document import JsonObject
from loraloom.run.events import AnswerProgress, Note, Report, quiet
from loraloom.run.folder import open_run
from loraloom.session import provenance as origin
from loraloom.session.adapter_folders import find_adapters, load_adapters
from loraloom.session.adapter_names import one_adapter
from loraloom.session.answer_languages import decoder_starts, in_languages, with_languages
from loraloom.session.answering_model import AnsweringModel, best_so_far, load_run
from loraloom.session.answering_ranks import ALONE, AnsweringRanks
from loraloom.session.locations import Relocation, relocated
from loraloom.session.row_advice import OF_ADAPTERS, OF_RUN, advising
from loraloom.text.message import Message
from loraloom.training.signals import StopRequest

ROWS_AT_ONCE = 512


def predict(
    run: Path,
    file: Path,
    *,
    experiment: str | None = None,
    keep: Sequence[str] = (),
    base: Path | None = None,
    source_lang: str | None = None,
    target_lang: str | None = None,
    report: Report = quiet,
    stop: StopRequest | None = None,
    ranks: AnsweringRanks = ALONE,
) -> Iterator[dict[str, object]]:
    """Answer every row of a file.

    Args:
        run: the run directory.
        file: rows as in training, whose answers are ignored and may be missing; or a text file with one
            prompt per line; or a folder of such files, or a pattern that matches them.
        experiment: experiment whose adapter answers; may be omitted if the run has only one; `base` for the
            base.
        keep: columns of the file to keep in the output, besides the id column.
        base: current folder of the run's base, if it was moved; it must be unchanged.
        source_lang, target_lang: languages of the rows and of the answers, for a multilingual base, if they
            differ from those in training.
        report: called with progress, and with a note on the column that is used as the id.
        stop: cancellation token.
        ranks: the processes that share the work, with this process as the leader.

    Yields:
        `{"row": from 1, …, "source", "answer"}` in the order of the file, with the row's id and the kept
        columns in between; for several files also `"file"`. A column with one of these names gets the suffix
        `_in_file`.

    Raises:
        LoRALoomError: the run or the file is unusable; raised before the first answer.
        Interrupted: a stop was requested.
    """
    opened = open_run(run)
    recipe, known = origin.run_recipe(opened)
    recipe, moved = relocated(opened, recipe, known, Relocation(base))
    recipe = in_languages(recipe, source_lang, target_lang)
    asks_base = experiment == BASE_NAME
    wanted: list[str] = []
    if not asks_base:
        so_far = {} if opened.is_finished else best_so_far(opened, recipe)
        usage = ["predict", str(run), str(file)]
        wanted = [one_adapter(opened, recipe, experiment, usage=usage, so_far=so_far)[0]]
    prompts = _prompts(file, recipe, keep, OF_RUN, report)
    loaded = load_run(run, wanted, with_base=asks_base, recipe=recipe, ranks=ranks)
    for note in [*moved, *loaded.notes]:
        report(Note(message=note))
    prompts = with_languages(loaded, prompts, report)
    return _answers(loaded, prompts, report, StopRequest() if stop is None else stop)


def predict_with_adapter(
    base: str | Path,
    adapter: str | Path,
    file: Path,
    *,
    keep: Sequence[str] = (),
    source_lang: str | None = None,
    target_lang: str | None = None,
    sets: Sequence[str] = (),
    report: Report = quiet,
    stop: StopRequest | None = None,
    ranks: AnsweringRanks = ALONE,
) -> Iterator[JsonObject]:
    """Answer every row of a file with an adapter that belongs to no run.

    Args:
        base: a folder, a hub name, or `starter`.
        adapter: a folder in PEFT's format.
        file, keep, source_lang, target_lang, report, stop, ranks: as in `predict`.
        sets: settings of `data` and `generation`, `dtype`, `quantization`, `device` or `seed`, each as
            `key=value`.

    Yields:
        As in `predict`.

    Raises:
        LoRALoomError: the base, the adapter or the file is unusable; raised before the first answer.
        Interrupted: a stop was requested.
    """
    given = find_adapters(base, [adapter], sets=sets)
    given = replace(given, recipe=in_languages(given.recipe, source_lang, target_lang))
    prompts = _prompts(file, given.recipe, keep, OF_ADAPTERS, report)
    loaded = load_adapters(given, file.parent, with_base=False, ranks=ranks)
    for note in [*given.notes, *loaded.notes]:
        report(Note(message=note))
    prompts = with_languages(loaded, prompts, report)
    return _answers(loaded, prompts, report, StopRequest() if stop is None else stop)


def _prompts(file: Path, recipe: Recipe, keep: Sequence[str], advice: str, report: Report) -> list[Prompt]:
    """Read the rows to answer, and report which column is their id and which columns are renamed."""
    with advising(advice):
        prompts = prompts_of_files(
            str(file),
            lambda path, name, findings: read_prompts(
                path, recipe.data, shown_as=name, with_answers=False, keep=keep, findings=findings
            ),
            lambda note: report(Note(message=note)),
        )
    _report_kept_columns(prompts, keep, report)
    return prompts


def _report_kept_columns(prompts: Sequence[Prompt], keep: Sequence[str], report: Report) -> None:
    """Report which column is the rows' id, and which columns have another name in the output."""
    asked = [output_name(name) for name in keep]
    for name in prompts[0].kept if prompts else ():
        if name not in asked:
            report(
                Note(
                    message=Message(
                        "the column `{name}` is used as the rows' id and kept with the answers", name=name
                    )
                )
            )
    for name in keep:
        if output_name(name) != name:
            report(
                Note(
                    message=Message(
                        "the column `{name}` of the file is named `{output_name}` in the output",
                        name=name,
                        output_name=output_name(name),
                    )
                )
            )


def _answers(
    loaded: AnsweringModel, prompts: list[Prompt], report: Report, stop: StopRequest
) -> Iterator[dict[str, object]]:
    tokenizer, recipe, stop = loaded.base.tokenizer, loaded.recipe, loaded.passes.agreed(stop)
    has_several = len({prompt.path for prompt in prompts}) > 1
    slot = next(iter(loaded.slots.values()), BASE)
    limit, cuts = recipe.data.max_source_length, []
    lengths: list[int] = []
    controls, held = control_names(tokenizer), []

    def heed_stop() -> None:
        stop.raise_if_set(
            Message(
                "stopped after {num_lengths} of {num_prompts} rows",
                num_lengths=len(lengths),
                num_prompts=len(prompts),
            )
        )

    for start in range(0, len(prompts), ROWS_AT_ONCE):
        chunk = prompts[start : start + ROWS_AT_ONCE]
        truncation, base = recipe.data.source_truncation, loaded.base
        sources, cut = encode_sources(chunk, tokenizer, limit, truncation, base.languages, base.frame)
        cuts.append(cut)
        held += [controls_in(ids, controls) for ids in sources]
        tokens = loaded.passes.answer(
            [slot],
            sources,
            recipe.generation,
            starts=decoder_starts(loaded, chunk),
            seed=recipe.seed,
            on_token=heed_stop,
        )[slot]
        lengths += [len(row) for row in tokens]
        texts = loaded.base.answer_text.texts(tokens, loaded.answer_tokens)
        for prompt, text in zip(chunk, texts, strict=True):
            file = {"file": prompt.path} if has_several else {}
            yield {**file, "row": prompt.row, **prompt.kept, "source": prompt.source, "answer": text}
        report(AnswerProgress(done=start + len(chunk), total=len(prompts)))
    name = next(iter(loaded.slots), BASE_NAME)
    of_answers = cut_words({name: lengths}, recipe.generation.max_new_tokens)
    of_sources = describe_cuts("", np.concatenate(cuts), limit) if cuts else ""
    for said in filter(None, (of_sources, describe_controls(held), of_answers)):
        report(Note(message=said))
