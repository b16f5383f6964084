"""What a report says: a run's plain files as one `Content`. Nothing here knows about pages or tables."""

from __future__ import annotations

import json
import math
import statistics
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from loraloom.errors import RunError
from loraloom.report.compared import Compared, comparison_names, group_of, read_compared
from loraloom.report.unseen import is_absolute, last_part, paths_in, replace_known, without_folders
from loraloom.run import Run, open_run

UNFINISHED = "unfinished"


@dataclass(frozen=True)
class AdapterFile:
    """What an experiment left: its adapter's file, as its own header describes it."""

    num_bytes: int
    num_linears: int
    num_weights: int


@dataclass(frozen=True)
class Curves:
    """What was measured in training, each a list of (the experiment's own step, value)."""

    loss: list[tuple[int, float]]
    eval_loss: list[tuple[int, float]]
    learning_rate: list[tuple[int, float]]


@dataclass(frozen=True)
class Trained:
    """One adapter: an experiment, or one seed of it.

    Args:
        name: `experiment`, or `experiment@seed`.
        group: the experiment's.
        status: `done`, `stopped` (early), `failed` or `unfinished`.
        reason: why it ended, where it did not simply finish.
        step, total_steps: taken and planned.
        best_step, best_metric, metric: of the checkpoint that became the adapter.
        forgetting: by how much its loss on `data.retain` is above the base's.
        targets: what its target modules stood for, in sentences.
        num_tokens: source and target tokens of all its steps.
        tokens_per_second: the median over its steps.
    """

    name: str
    group: str
    status: str
    reason: str
    step: int
    total_steps: int | None
    best_step: int | None
    best_metric: float | None
    metric: str
    forgetting: float | None
    seed: int
    targets: list[str]
    adapter: AdapterFile | None
    num_tokens: int
    tokens_per_second: float | None
    curves: Curves


@dataclass(frozen=True)
class Content:
    """A run.

    Args:
        name: of its folder.
        path: for commands: as it was given where that is relative, else the name.
        base: its name and fingerprints; empty before it was loaded.
        rows: how many rows `train`, `eval` and `test` have.
        comparison: what is shown of `comparisons`, None where there is none.
        recipe: as YAML, without this machine's folders.
        checks: findings, the worst first.
        choices: automatic ones, each `{"value", "reason"}`.
        cost: `steps`, `wall_seconds` and `peak_bytes` of a finished run.
    """

    name: str
    path: str
    started: str
    is_finished: bool
    base: dict[str, Any]
    rows: dict[str, int]
    experiments: list[Trained]
    comparison: Compared | None
    comparisons: list[str]
    checks: list[dict[str, str]]
    recipe: str
    versions: dict[str, str]
    platform: str
    data: dict[str, str]
    choices: dict[str, dict[str, str]]
    cost: dict[str, float]


def read_content(folder: Path, compare_name: str | None = None) -> Content:
    """Read all that a report says about a run, from its plain files.

    Args:
        folder: the run directory; the run may be unfinished.
        compare_name: which comparison; by default test rows before eval rows before prompts.

    Raises:
        RunError: it is no run, has no such comparison, or a file of it is damaged.
    """
    run = open_run(folder)
    provenance = run.read_json(run.provenance_file)
    if not isinstance(provenance, dict) or not isinstance(provenance.get("seeds"), dict):
        raise RunError("is damaged: it names no seeds", where=str(run.provenance_file))
    try:
        return _content(run, provenance, read_compared(run, compare_name))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise RunError(
            f"the run's files do not fit together: {type(error).__name__} {error}",
            where=str(run.folder),
            fix="`loraloom train RECIPE --resume RUN` verifies it.",
        ) from None


def _content(run: Run, provenance: dict[str, Any], comparison: Compared | None) -> Content:
    recipe = run.recipe_file.read_text(encoding="utf-8")
    shown_as = _known_paths(run, provenance, recipe)
    known = without_folders(provenance, shown_as)
    checks = _checks(run, shown_as)
    result = without_folders(run.read_json(run.result_file), shown_as) if run.is_finished else None
    return Content(
        name=run.folder.resolve().name,
        path=run.folder.resolve().name if run.folder.is_absolute() else str(run.folder),
        started=known["started"],
        is_finished=run.is_finished,
        base={key: known["base"][key] for key in _BASE_KEYS} if "base" in known else {},
        rows=_num_rows(run),
        experiments=_experiments(run, known, result or {}, checks, shown_as),
        comparison=comparison,
        comparisons=comparison_names(run),
        checks=checks,
        recipe=_recipe_text(recipe, shown_as),
        versions=known["versions"],
        platform=known["platform"],
        data=known["data"] | _retained(known),
        choices={
            key: {"value": str(choice["value"]), "reason": choice["reason"]}
            for key, choice in known["choices"].items()
        },
        cost={key: result[key] for key in _COST_KEYS} if result is not None else {},
    )


def _retained(provenance: Mapping[str, Any]) -> dict[str, str]:
    return {"data.retain": provenance["retain"]} if provenance.get("retain") else {}


_BASE_KEYS = ("name", "fingerprint", "tokenizer_fingerprint", "head_is_tied")
_COST_KEYS = ("steps", "wall_seconds", "peak_bytes")
_FINDING_KEYS = ("level", "check", "where", "message", "fix")
_LEVELS = ("error", "warning", "note", "ok")


def _checks(run: Run, shown_as: Mapping[str, str]) -> list[dict[str, str]]:
    """The findings, the worst first."""
    found = run.read_json(run.checks_file) if run.checks_file.is_file() else []
    findings = [{key: finding[key] for key in _FINDING_KEYS} for finding in without_folders(found, shown_as)]
    return sorted(findings, key=lambda finding: _LEVELS.index(finding["level"]))


def _known_paths(run: Run, provenance: Mapping[str, Any], recipe: str) -> dict[str, str]:
    """Absolute paths that the run's files may hold, and what a reader sees instead."""
    named = [*paths_in(yaml.safe_load(recipe)), *filter(is_absolute, provenance.get("data", {}))]
    folders = [str(run.folder.resolve()), str(provenance.get("folder", "")), str(Path.home())]
    return {folder: "…" for folder in folders if len(folder) > 1} | {
        path: f"…/{last_part(path)}" for path in named
    }


def _recipe_text(text: str, shown_as: Mapping[str, str]) -> str:
    """The recipe as it stands in the run, but for this machine's folders."""
    shown = replace_known(text, shown_as)
    tree = yaml.safe_load(shown)
    if not list(paths_in(tree)):
        return shown
    # YAML had a path in another spelling, escaped or folded: written anew, it has none.
    return yaml.safe_dump(_hidden(tree), allow_unicode=True, sort_keys=False)


def _hidden(value: Any, key: str = "") -> Any:
    if isinstance(value, dict):
        return {inner: _hidden(item, str(inner)) for inner, item in value.items()}
    return f"…/{last_part(value)}" if list(paths_in(value, key)) else value


def _num_rows(run: Run) -> dict[str, int]:
    split = run.read_json(run.split_file)
    return {part: len(split[part]) for part in ("train", "eval", "test")}


def _experiments(
    run: Run,
    provenance: Mapping[str, Any],
    result: Mapping[str, Any],
    checks: Iterable[Mapping[str, str]],
    shown_as: Mapping[str, str],
) -> list[Trained]:
    events: dict[str, list[dict[str, Any]]] = {name: [] for name in provenance["seeds"]}
    for event in run.events():
        if event.get("experiment") in events:
            is_end = event["event"] == "end"  # the only one with a sentence in it
            events[event["experiment"]].append(without_folders(event, shown_as) if is_end else event)
    entries = result.get("experiments", {})
    return [
        _trained(run, name, seed, events[name], entries.get(name), checks)
        for name, seed in provenance["seeds"].items()
    ]


def _trained(
    run: Run,
    name: str,
    seed: int,
    events: list[dict[str, Any]],
    entry: Mapping[str, Any] | None,
    checks: Iterable[Mapping[str, str]],
) -> Trained:
    steps = [event for event in events if event["event"] == "train"]
    ends = [event for event in events if event["event"] == "end"]
    if entry is None and ends:
        entry = ends[-1] | {"step": ends[-1]["experiment_step"]}
    entry = entry or {}
    speeds = [speed for _, speed in _points(steps, "tokens_per_second")]
    return Trained(
        name=name,
        group=group_of(name),
        status=entry.get("status", UNFINISHED),
        reason=entry.get("reason", ""),
        step=entry.get("step", steps[-1]["experiment_step"] if steps else 0),
        total_steps=steps[-1].get("total_steps") if steps else None,
        best_step=entry.get("best_step"),
        best_metric=entry.get("best_metric"),
        metric=_origin(run, name).get("metric_for_best_model", ""),
        forgetting=entry.get("forgetting"),
        seed=seed,
        targets=[
            finding["message"]
            for finding in checks
            if finding["check"] == "targets" and finding["where"].startswith(f"{name}: ")
        ],
        adapter=_adapter_file(run.adapters / name / "adapter_model.safetensors"),
        num_tokens=int(sum(tokens for _, tokens in _points(steps, "num_tokens"))),
        tokens_per_second=statistics.median(speeds) if speeds else None,
        curves=Curves(
            loss=_points(steps, "loss"),
            eval_loss=_points([event for event in events if event["event"] == "eval"], "eval_loss"),
            learning_rate=_points(steps, "learning_rate"),
        ),
    )


def _points(events: Iterable[Mapping[str, Any]], key: str) -> list[tuple[int, float]]:
    return [
        (event["experiment_step"], float(event[key]))
        for event in events
        if isinstance(event.get(key), int | float) and math.isfinite(event[key])
    ]


def _origin(run: Run, name: str) -> dict[str, Any]:
    path = run.adapters / name / "loraloom.json"
    origin = run.read_json(path) if path.is_file() else {}
    return origin if isinstance(origin, dict) else {}


def _adapter_file(path: Path) -> AdapterFile | None:
    """Size and shapes from the file's header (safetensors: eight bytes of length, then JSON)."""
    if not path.is_file():
        return None
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(min(length, path.stat().st_size)))
        tensors = [entry for key, entry in header.items() if key != "__metadata__"]
        num_weights = sum(math.prod(entry["shape"]) for entry in tensors)
    except (OSError, ValueError, struct.error, KeyError, TypeError, AttributeError) as error:
        raise RunError(
            f"is damaged: {error}",
            where=str(path),
            fix="`loraloom train RECIPE --resume RUN` writes it anew.",
        ) from None
    return AdapterFile(path.stat().st_size, len(tensors) // 2, num_weights)
