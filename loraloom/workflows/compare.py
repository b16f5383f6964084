"""compare: base and adapters answer the same rows in one pass; what differs, in figures and side by side.

Answers are kept as they come in `compare/.<name>.partial.jsonl`, so that a comparison of ten thousand
rows that was interrupted goes on where it stopped; the finished `compare/<name>.json` replaces it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from loraloom.base.answer_text import sentinels_in
from loraloom.data.encoding import EncodedSet, describe_cuts, encode_sources, encode_texts
from loraloom.data.prompts import Prompt, prompts_of_texts, read_prompts
from loraloom.data.retain import read_retained
from loraloom.errors import DataError, Interrupted, RunError
from loraloom.evaluate import comparison
from loraloom.evaluate.comparison import BASE_NAME, ModelAnswers
from loraloom.evaluate.generation import answer, cut_words
from loraloom.evaluate.loss import eval_losses, row_losses
from loraloom.evaluate.metrics import METRICS
from loraloom.evaluate.movement import movement
from loraloom.files import replace_text
from loraloom.recipe import EXPERIMENT_NAME
from loraloom.run import Report, Run, now, open_run, quiet, to_json
from loraloom.training.stopping import stop_on_signals
from loraloom.workflows import provenance as origin
from loraloom.workflows.loading import Loaded, load_run
from loraloom.workflows.prepare import encode_rows

SplitName = Literal["eval", "test"]
FORMAT = 1
BATCHES_AT_ONCE = 4  # between two looks at the clock and two writes to the disk


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
        What the file holds, and `file`:
        `{"sentences": […], "models": {name: {"figures", "movement"}}, "differences": […],
        "rows": [{"source", "reference", "answers": {model: text}}], …}`.

    Raises:
        LoRALoomError: the run, its data or its adapters are not usable.
        Interrupted: SIGINT or SIGTERM; the same call goes on where it stopped.
    """
    rows, what = _rows(run, split, prompts, prompts_file)
    name = _file_name(name or what)
    loaded = load_run(run, experiments)
    for note in loaded.notes:
        report("note", message=note)
    limit = loaded.recipe.data.max_source_length
    sources, cuts = encode_sources(rows, loaded.base.tokenizer, limit, loaded.recipe.data.source_truncation)
    if said := describe_cuts("", cuts, limit):
        report("note", message=said)
    answers, num_labels = _answers(loaded, rows, sources, name, report)
    lengths = {model: own.num_tokens for model, own in answers.items()}
    if said := cut_words(lengths, loaded.recipe.generation.max_new_tokens):
        report("note", message=said)
    result = {
        "format": FORMAT,
        "what": what,
        "time": now(),
        "num_rows": len(rows),
        "num_truncated_sources": int(cuts.astype(bool).sum()),
        "took_part_in_a_choice": what == "eval",
        **_summary(loaded, rows, answers, num_labels, what),
        "rows": [
            {
                "source": row.source,
                "reference": row.response,
                "answers": {model: own.texts[number] for model, own in answers.items()},
            }
            for number, row in enumerate(rows)
        ],
    }
    file = loaded.run.comparisons / f"{name}.json"
    replace_text(file, to_json(result))
    _partial_file(loaded.run, name).unlink(missing_ok=True)
    return result | {"file": str(file)}


def _file_name(name: str) -> str:
    if not EXPERIMENT_NAME.fullmatch(name):
        raise RunError(
            f"`{name}` cannot name a comparison", where="--name", allowed="letters, digits, `-`, `_` and `.`"
        )
    return name


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
    return [Prompt(e.source, e.response, e.path, e.row, e.parts) for e in examples], part


def _answers(
    loaded: Loaded, rows: Sequence[Prompt], sources: Sequence[Sequence[int]], name: str, report: Report
) -> tuple[dict[str, ModelAnswers], list[int]]:
    """What every model says to every row, taken up where an earlier call left off."""
    targets: list[list[int]] = []
    if all(row.response is not None for row in rows):
        texts = [row.response or "" for row in rows]
        limit = loaded.recipe.data.max_target_length
        targets, _ = encode_texts(texts, loaded.base.tokenizer, limit, as_target=True)
    kept = loaded.answer_tokens | sentinels_in(row.response or "" for row in rows)
    answers = {model: ModelAnswers() for model in loaded.slots}
    partial = _partial_file(loaded.run, name)
    partial.parent.mkdir(exist_ok=True)
    done = _take_up(partial, _key(loaded, rows), answers)
    if done:
        report("note", message=f"going on after the {done} rows that were answered before")
    size = loaded.recipe.generation.batch_size * BATCHES_AT_ONCE
    with stop_on_signals() as stop:
        while done < len(rows):
            chunk = slice(done, done + size)
            answered = _answer_chunk(loaded, sources[chunk], targets[chunk], kept)
            with partial.open("a", encoding="utf-8") as file:
                file.write(json.dumps({model: asdict(own) for model, own in answered.items()}) + "\n")
            _extend(answers, answered)
            done = min(done + size, len(rows))
            report("answered", done=done, total=len(rows))
            if stop and done < len(rows):
                raise Interrupted(
                    stop.signal_number, f"stopped after {done} of {len(rows)} rows; the same command goes on"
                )
    return answers, [len(target) for target in targets]


def _answer_chunk(
    loaded: Loaded,
    sources: Sequence[Sequence[int]],
    targets: Sequence[Sequence[int]],
    kept: Collection[str],
) -> dict[str, ModelAnswers]:
    """Answers and losses of every model for some rows, each in one pass."""
    slots, recipe = list(loaded.slots.values()), loaded.recipe
    tokens = answer(loaded.bank, slots, sources, recipe.generation, seed=recipe.seed)
    losses: list[list[float]] = [[] for _ in slots]
    if targets:
        size = recipe.training.per_device_eval_batch_size
        losses = row_losses(loaded.bank, slots, EncodedSet(sources, targets), batch_size=size).tolist()
    texts_of = loaded.base.answer_text.texts
    return {
        model: ModelAnswers(
            texts=texts_of(tokens[slot], kept),
            num_tokens=[len(row) for row in tokens[slot]],
            losses=own,
        )
        for (model, slot), own in zip(loaded.slots.items(), losses, strict=True)
    }


def _partial_file(run: Run, name: str) -> Path:
    return run.comparisons / f".{name}.partial.jsonl"


def _key(loaded: Loaded, rows: Sequence[Prompt]) -> str:
    """What answers depend on; answers of another key are not taken up."""
    digest = hashlib.sha256(loaded.recipe.generation.model_dump_json().encode())
    digest.update(loaded.base.fingerprint.encode())
    for name, adapter in loaded.adapters.items():
        digest.update(name.encode())
        for key, tensor in sorted(adapter.tensors.items()):
            digest.update(key.encode() + tensor.numpy().tobytes())
    for row in rows:
        digest.update(f"{row.source}\0{row.response}\0".encode())
    return digest.hexdigest()


def _take_up(partial: Path, key: str, answers: dict[str, ModelAnswers]) -> int:
    """Read what an interrupted call answered; how many rows that is."""
    try:
        first, *lines = partial.read_text(encoding="utf-8").splitlines()
        is_same = json.loads(first) == {"key": key}
    except (OSError, ValueError, RecursionError):
        first, lines, is_same = "", [], False
    if not is_same:
        partial.write_text(json.dumps({"key": key}) + "\n", encoding="utf-8")
        return 0
    whole = []
    for line in lines:
        try:
            chunk = {model: ModelAnswers(**own) for model, own in json.loads(line).items()}
        except (ValueError, TypeError, AttributeError, RecursionError):
            break  # cut by the interruption
        whole.append(line)
        _extend(answers, chunk)
    replace_text(partial, "\n".join([first, *whole]) + "\n")
    return len(answers[BASE_NAME].texts)


def _extend(answers: dict[str, ModelAnswers], more: dict[str, ModelAnswers]) -> None:
    for model, own in more.items():
        answers[model].texts.extend(own.texts)
        answers[model].num_tokens.extend(own.num_tokens)
        answers[model].losses.extend(own.losses)


def _summary(
    loaded: Loaded,
    rows: Sequence[Prompt],
    answers: dict[str, ModelAnswers],
    num_labels: list[int],
    what: str,
) -> dict[str, Any]:
    """Figures, differences, movement, sentences, and what to take."""
    expressible = loaded.base.answer_text.expressible
    references = expressible([row.response or "" for row in rows]) if num_labels else None
    limit = loaded.recipe.generation.max_new_tokens
    models: dict[str, dict[str, Any]] = {
        model: {"figures": comparison.figures(own, answers[BASE_NAME], references, num_labels, limit)}
        for model, own in answers.items()
    }
    moved = {model: movement(loaded.bank, model) for model in loaded.adapters}
    for model, own in moved.items():
        models[model]["movement"] = asdict(own)
    for model, loss in _retain_losses(loaded).items():
        models[model]["figures"]["retain_loss"] = loss
    groups = _groups(loaded)
    where = f"{len(rows)} {what} rows" if what != "prompts" else f"{len(rows)} prompts"
    evidence = comparison.weigh(answers, groups, references, num_labels) if references is not None else None
    sentences = [
        comparison.sentence(
            group,
            _mean([models[name]["figures"] for name in names]),
            [moved[name] for name in names],
            evidence,
            where,
        )
        for group, names in groups.items()
        if group != BASE_NAME
    ]
    summary = {
        "sentences": sentences,
        "generation": loaded.recipe.generation.model_dump(),
        "models": models,
        "differences": [],
    }
    if references is None or evidence is None:
        return {**summary, "signatures": {}}
    sizes = {group: _size(loaded, names) for group, names in groups.items() if group != BASE_NAME}
    choice, why = comparison.recommendation(evidence, sizes, where)
    return {
        **summary,
        "signatures": {key: metric.signature(references) for key, metric in METRICS.items()},
        "groups": comparison.groups_to_json(evidence, groups),
        "differences": [difference.to_json() for difference in evidence.differences],
        "pairs": [difference.to_json() for difference in evidence.pairs],
        "ranking": comparison.ranking(evidence),
        "recommendation": {"experiment": choice, "sentence": why},
    }


def _retain_losses(loaded: Loaded) -> dict[str, float]:
    """The loss of every model on `data.retain`, all in one pass; what an adapter adds it has forgotten."""
    retained = read_retained(loaded.recipe.data, loaded.folder)
    if retained is None:
        return {}
    size = loaded.recipe.training.per_device_eval_batch_size
    rows = encode_rows(retained.examples, loaded.base, loaded.recipe)
    losses = eval_losses(loaded.bank, list(loaded.slots.values()), rows, batch_size=size)
    return {model: losses[slot] for model, slot in loaded.slots.items()}


def _groups(loaded: Loaded) -> dict[str, list[str]]:
    """Experiment → the models of its seeds, the base first."""
    groups: dict[str, list[str]] = {BASE_NAME: [BASE_NAME]}
    for experiment in loaded.recipe.resolved_experiments:
        if experiment.name in loaded.adapters:
            groups.setdefault(experiment.group, []).append(experiment.name)
    return groups


def _mean(figures: Sequence[dict[str, float]]) -> dict[str, float]:
    return {key: sum(own[key] for own in figures) / len(figures) for key in figures[0]}


def _size(loaded: Loaded, names: Sequence[str]) -> int:
    return sum(tensor.numel() for tensor in loaded.adapters[names[0]].tensors.values())
