"""compare: base and adapters answer the same rows in one pass; what differs, in figures and side by side."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from loraloom.bank.bank import AdapterBank
from loraloom.bank.peft_folder import read_adapter
from loraloom.bank.rows import BASE
from loraloom.base.loading import Base
from loraloom.data.encoding import EncodedSet, encode_texts
from loraloom.data.prompts import Prompt, prompts_of_texts, read_prompts
from loraloom.errors import DataError, ModelError, RecipeError, RunError
from loraloom.evaluate.generation import answer
from loraloom.evaluate.loss import eval_losses
from loraloom.evaluate.metrics import METRICS, share_changed
from loraloom.recipe import Recipe
from loraloom.run import Report, Run, now, open_run, quiet, replace_text, to_json
from loraloom.workflows import provenance as origin
from loraloom.workflows.prepare import load_recipe_base

BASE_NAME = "base"
FILE_NAME = re.compile(r"[^\W_][\w.\-]{0,63}")
SplitName = Literal["eval", "test"]


@dataclass(frozen=True)
class Loaded:
    """A run's base with some of its adapters attached.

    Args:
        slots: names as in results (`base` first) → slots of the bank.
        notes: what should be known about what was loaded.
    """

    run: Run
    recipe: Recipe
    folder: Path
    base: Base
    bank: AdapterBank
    slots: dict[str, str | None]
    notes: list[str]


def load_run(folder: Path, experiments: Sequence[str] | None = None, *, with_base: bool = True) -> Loaded:
    """Load a run's base and attach its adapters.

    Args:
        folder: the run directory.
        experiments: whose adapters; all that are there where not given.
        with_base: whether the base answers too.

    Raises:
        RunError: it is no run, or has no such adapter.
        AdapterError: an adapter is damaged or belongs to another base.
    """
    run = open_run(folder)
    recipe, recipe_folder, known = origin.run_recipe(run)
    names, notes = _adapters(run, recipe, experiments)
    base = _load_base(recipe, recipe_folder, known, notes)
    bank = AdapterBank(base)
    for name in names:
        adapter = read_adapter(run.adapters / name, base)
        bank.attach(name, adapter.settings, seed=0, tensors=adapter.tensors)
    slots: dict[str, str | None] = {BASE_NAME: BASE} if with_base else {}
    return Loaded(run, recipe, recipe_folder, base, bank, slots | {name: name for name in names}, notes)


def _adapters(run: Run, recipe: Recipe, wanted: Sequence[str] | None) -> tuple[list[str], list[str]]:
    """The adapters to load, and notes on those that are not what one may think."""
    listed = [experiment.name for experiment in recipe.resolved_experiments]
    there = [name for name in listed if (run.adapters / name).is_dir()]
    unknown = [name for name in wanted or [] if name not in listed]
    if unknown:
        raise RunError(f"has no experiment `{unknown[0]}`", where=str(run.folder), allowed=", ".join(listed))
    lacking = [name for name in wanted or [] if name not in there]
    if lacking or not (there or wanted == []):
        what = (
            f"experiment `{lacking[0]}` has no adapter" if lacking else "there is no finished adapter in it"
        )
        raise RunError(what, where=str(run.folder), fix="Train on with `loraloom train RECIPE --resume RUN`.")
    notes = (
        [] if run.is_finished else ["training has not ended; these are the adapters that are finished so far"]
    )
    notes += [f"{name} has no adapter" for name in listed if name not in there and wanted is None]
    return list(there if wanted is None else wanted), notes


def _load_base(recipe: Recipe, folder: Path, known: dict[str, Any], notes: list[str]) -> Base:
    choices = origin.decided(known)
    try:
        return load_recipe_base(recipe, folder, choices)
    except ModelError as error:
        if error.problems[0].where != "device":
            raise
        notes.append(
            f"the run's device, {choices.get('device')}, is not here; figures may differ in the last digits"
        )
        return load_recipe_base(recipe, folder)


def compare(
    run: Path,
    *,
    split: SplitName | None = None,
    prompts: Sequence[str] = (),
    prompts_file: Path | None = None,
    experiments: Sequence[str] | None = None,
    name: str | None = None,
    report: Report = quiet,
) -> dict[str, Any]:
    """Let base and adapters answer the same rows; write `compare/<name>.json` in the run.

    Args:
        run: the run directory.
        split: whose rows; `test` where the run has one, else `eval`.
        prompts, prompts_file: other rows instead, from text or a file.
        experiments: whose adapters; all where not given.
        name: of the file; by default what was compared.
        report: told of progress, `report("answered", done=…, total=…)`.

    Returns:
        What the file holds:
        `{"rows": [{"source", "reference", "answers": {model: text}}], "models": {model: figures}, …}`.

    Raises:
        LoRALoomError: the run, its data or its adapters are not usable.
    """
    if name is not None:
        _check_file_name(name)
    rows, what = _rows(run, split, prompts, prompts_file)
    loaded = load_run(run, experiments)
    for note in loaded.notes:
        report("note", message=note)
    recipe = loaded.recipe
    sources, num_cut = encode_texts(
        [row.source for row in rows], loaded.base.tokenizer, recipe.data.max_source_length
    )
    if num_cut:
        report(
            "note",
            message=f"{num_cut} of {len(rows)} sources are cut to {recipe.data.max_source_length} tokens",
        )
    answers = _answers(loaded, sources, report)
    losses = _losses(loaded, rows, sources)
    figures = {model: _figures(model, answers, rows) | losses.get(model, {}) for model in loaded.slots}
    comparison = {
        "what": what,
        "time": now(),
        "num_rows": len(rows),
        "num_truncated_sources": num_cut,
        "generation": recipe.generation.model_dump(),
        "signatures": {key: metric.signature() for key, metric in METRICS.items()},
        "models": figures,
        "rows": [
            {
                "source": row.source,
                "reference": row.response,
                "answers": {model: answers[model][number] for model in loaded.slots},
            }
            for number, row in enumerate(rows)
        ],
    }
    loaded.run.comparisons.mkdir(exist_ok=True)
    file = loaded.run.comparisons / f"{name or what}.json"
    replace_text(file, to_json(comparison))
    return comparison | {"file": str(file)}


def _check_file_name(name: str) -> None:
    if not FILE_NAME.fullmatch(name):
        raise RecipeError(
            "cannot name a comparison's file",
            where="--name",
            found=name[:80],
            allowed="letters, digits, `-`, `_` and `.`, up to 64 of them, beginning with a letter or digit",
        )


def _rows(
    folder: Path, split: SplitName | None, prompts: Sequence[str], prompts_file: Path | None
) -> tuple[list[Prompt], str]:
    """The rows to answer and what to call them, before any model is loaded."""
    run = open_run(folder)
    recipe, recipe_folder, _ = origin.run_recipe(run)
    if prompts or prompts_file is not None:
        if split is not None:
            raise DataError("--split and prompts are two answers to one question", fix="Give one of them.")
        rows = prompts_of_texts(prompts, recipe.data)
        if prompts_file is not None:
            rows += read_prompts(prompts_file, recipe.data, shown_as=str(prompts_file))
        return rows, "prompts"
    parts = origin.run_split(run, recipe, recipe_folder)
    part = split or ("test" if parts.test else "eval")
    examples = getattr(parts, part)
    if not examples:
        raise DataError(
            f"the run has no {part} rows", where=str(folder), fix="Give --prompt TEXT or --prompts FILE."
        )
    return [Prompt(e.source, e.response, e.path, e.row) for e in examples], part


def _answers(loaded: Loaded, sources: Sequence[Sequence[int]], report: Report) -> dict[str, list[str]]:
    tokens = answer(
        loaded.bank,
        list(loaded.slots.values()),
        sources,
        loaded.recipe.generation,
        seed=loaded.recipe.seed,
        on_rows=lambda done: report("answered", done=done, total=len(sources)),
    )
    decode = loaded.base.tokenizer.batch_decode
    return {model: decode(tokens[slot], skip_special_tokens=True) for model, slot in loaded.slots.items()}


def _losses(
    loaded: Loaded, rows: Sequence[Prompt], sources: Sequence[Sequence[int]]
) -> dict[str, dict[str, float]]:
    """eval_loss of each model, where every row has a reference."""
    if any(row.response is None for row in rows):
        return {}
    targets, _ = encode_texts(
        [row.response or "" for row in rows],
        loaded.base.tokenizer,
        loaded.recipe.data.max_target_length,
        as_target=True,
    )
    losses = eval_losses(
        loaded.bank,
        list(loaded.slots.values()),
        EncodedSet(sources, targets),
        batch_size=loaded.recipe.training.per_device_eval_batch_size,
    )
    return {model: {"eval_loss": losses[slot]} for model, slot in loaded.slots.items()}


def _figures(model: str, answers: dict[str, list[str]], rows: Sequence[Prompt]) -> dict[str, float]:
    figures = {"share_changed": share_changed(answers[model], answers[BASE_NAME])}
    references = [row.response for row in rows if row.response is not None]
    if len(references) == len(rows):
        figures |= {key: metric.compute(answers[model], references) for key, metric in METRICS.items()}
    return figures
