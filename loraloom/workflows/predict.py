"""predict: one adapter, or the base, answers the rows of a file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from loraloom.bank.rows import BASE
from loraloom.data.encoding import describe_cuts, encode_sources
from loraloom.data.prompts import Prompt, read_prompts
from loraloom.evaluate.comparison import BASE_NAME
from loraloom.evaluate.generation import answer, cut_words
from loraloom.run import Report, open_run, quiet
from loraloom.workflows import provenance as origin
from loraloom.workflows.loading import Loaded, load_run, only_experiment

ROWS_AT_ONCE = 512


def predict(
    run: Path,
    file: Path,
    *,
    experiment: str | None = None,
    base: bool = False,
    report: Report = quiet,
) -> Iterator[dict[str, Any]]:
    """Answer every row of a file.

    Args:
        run: the run directory.
        file: rows as in training (references are not looked at), or a text file, a prompt a line.
        experiment: whose adapter answers; may be left out where the run has one.
        base: the base answers instead.
        report: told of progress.

    Yields:
        `{"row": from 1, "source", "answer"}` in the file's order.

    Raises:
        LoRALoomError: the run or the file is not usable; before the first answer.
    """
    opened = open_run(run)
    recipe, _, _ = origin.run_recipe(opened)
    wanted = [] if base else [experiment or only_experiment(opened, recipe)]
    prompts = read_prompts(file, recipe.data, shown_as=str(file))
    loaded = load_run(run, wanted, with_base=base)
    return _answers(loaded, prompts, report)


def _answers(loaded: Loaded, prompts: list[Prompt], report: Report) -> Iterator[dict[str, Any]]:
    tokenizer, recipe = loaded.base.tokenizer, loaded.recipe
    slot = next(iter(loaded.slots.values()), BASE)
    limit, cuts, lengths = recipe.data.max_source_length, [], []
    for start in range(0, len(prompts), ROWS_AT_ONCE):
        chunk = prompts[start : start + ROWS_AT_ONCE]
        sources, cut = encode_sources(chunk, tokenizer, limit, recipe.data.source_truncation)
        cuts.append(cut)
        tokens = answer(loaded.bank, [slot], sources, recipe.generation, seed=recipe.seed)[slot]
        lengths += [len(row) for row in tokens]
        texts = loaded.base.answer_text.texts(tokens, loaded.answer_tokens)
        for prompt, text in zip(chunk, texts, strict=True):
            yield {"row": prompt.row, "source": prompt.source, "answer": text}
        report("answered", done=start + len(chunk), total=len(prompts))
    name = next(iter(loaded.slots), BASE_NAME)
    of_answers = cut_words({name: lengths}, recipe.generation.max_new_tokens)
    of_sources = describe_cuts("", np.concatenate(cuts), limit) if cuts else ""
    for said in filter(None, (of_sources, of_answers)):
        report("note", message=said)
