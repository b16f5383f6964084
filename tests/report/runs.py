"""Runs made of plain files alone: no model is trained, so that every test here is instant."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from loraloom.run.folder import Run

FOLDER = "/home/someone/secret project"
NAMES = ("wide", "slow")
STEPS = 40
EVAL_EVERY = 10
SENTENCES = {
    "wide": "wide answers better than the base: chrF 31.4 against 12.0 (+19.4, 95 % interval +15.0 to +24.0) "
    "on 3 test rows; 100 % of its answers differ from the base's.",
    "slow": "slow did nothing: not one answer differs from the base's on 3 test rows (ΔW is 0.00012 of W).",
}
HOSTILE = (
    "<script>alert(1)</script>",
    "</script><script>alert(2)</script>",
    "</style><style>*{display:none}</style>",
    "<img src=x onerror=alert(3)>",
    '"><svg onload=alert(4)>',
    "' onmouseover='alert(5)",
    "=1+1",
    "+1",
    "-1",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "a\u202eb\u202c",
    "\x00\x07\x1b[31m",
    "\u2028\u2029\u200b\ufeff",
    "\ud800 alone",
    "[link](javascript:alert(6)) javascript:alert(7) https://example.com/x",
    "{{ 7 * 7 }}{% for x in y %}",
    "<!-- ]]> -->",
    "``` ~~~ | @nobody #12",
    "很长" * 6000 + "W" * 9000,
    "",
    "👩‍👩‍👧 如何处理焦虑？",
)


def make_run(
    folder: Path,
    rows: Sequence[dict[str, Any]] | None = None,
    *,
    compare: Sequence[str] = ("test",),
    names: Sequence[str] = NAMES,
    is_finished: bool = True,
    has_begun: bool = True,
    changes: Mapping[str, Any] | None = None,
) -> Run:
    """A run directory.

    Args:
        rows: of every comparison; three usual ones if not given.
        compare: `test`, `eval` and `prompts`, whichever comparisons it has.
        names: its experiments.
        is_finished: whether it has a result and adapters.
        has_begun: whether there are checks and a first step.
        changes: what the recipe says of each experiment; nothing if not given.
    """
    run = Run(folder)
    for part in (folder, run.adapters, run.comparisons):
        part.mkdir(parents=True, exist_ok=True)
    experiments = {name.partition("@")[0]: {} for name in names} | dict(changes or {})
    run.recipe_file.write_text(
        f"model_name_or_path: {FOLDER}/models/mt5\n"
        f'data: {{train: "{FOLDER}/data.json", eval: 0.2, source_prefix: "/ask/now: "}}\n'
        f"experiments: {json.dumps(experiments)}\n",
        encoding="utf-8",
    )
    write(run.provenance_file, provenance(names, has_begun))
    write(run.split_file, {"files": {}, "train": [["d", 1]] * 40, "eval": [["d", 2]] * 6, "test": [["d", 3]]})
    if has_begun:
        write(run.checks_file, checks(names))
        train(run, names)
    if is_finished:
        for name in names:
            export(run, name)
        entry = {
            "status": "done",
            "step": STEPS,
            "reason": "",
            "best_step": 30,
            "best_metric": 1.5,
            "forgetting": 0.25,
        }
        result = {"experiments": dict.fromkeys(names, entry), "steps": STEPS}
        write(run.result_file, {**result, "wall_seconds": 6.58, "peak_bytes": 469942272})
    for what in compare:
        write(run.comparisons / f"{what}.json", comparison(what, rows or usual_rows(names), names))
    return run


def write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")


def provenance(names: Sequence[str], has_begun: bool) -> dict[str, Any]:
    known: dict[str, Any] = {
        "started": "2026-11-24T06:19:26+00:00",
        "folder": FOLDER,
        "versions": {"python": "3.11.7", "loraloom": "0.1.0"},
        "platform": "Linux",
        "data": {f"{FOLDER}/data.json": "b5" * 32},
        "seeds": dict.fromkeys(names, 42),
        "choices": {},
    }
    if has_begun:
        known["base"] = {
            "name": "mt5",
            "fingerprint": "62" * 32,
            "tokenizer_fingerprint": "bf" * 32,
            "head_is_tied": False,
        }
        reason = f"because {FOLDER}/models/mt5 and /opt/other/place say so"
        known["choices"] = {"device": {"value": "cpu", "reason": reason}}
    return known


def checks(names: Sequence[str]) -> list[dict[str, str]]:
    targets = [
        {
            "level": "ok",
            "check": "targets",
            "where": f"{name}: lora.target_modules",
            "message": "`q` matches 6 linears, 3,072 adapter weights at r 8",
            "fix": "",
        }
        for name in names
    ]
    warning = {
        "level": "warning",
        "check": "truncation",
        "where": "data.max_source_length",
        "message": f"37 rows of {FOLDER}/data.json are cut",
        "fix": "Raise data.max_source_length.",
    }
    return [*targets, warning]


def train(run: Run, names: Sequence[str]) -> None:
    lines = []
    for step in range(1, STEPS + 1):
        for number, name in enumerate(names):
            common = {"step": step, "experiment": name, "experiment_step": step, "epoch": step / 10}
            loss, rate = 4 / step**0.3 + number, 10 ** -(3 + number) * (1 - step / STEPS / 2)
            lines.append({"event": "train", **common, "total_steps": STEPS, "loss": loss})
            lines[-1] |= {"learning_rate": rate, "grad_norm": 1.0, "num_tokens": 100 * (number + 1)}
            lines[-1] |= {"tokens_per_second": 100.0 * (number + 1)}
            if step % EVAL_EVERY == 0:
                lines.append({"event": "eval", **common, "eval_loss": loss + 0.1})
    run.events_file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def export(run: Run, name: str) -> None:
    folder = run.adapters / name
    folder.mkdir()
    tensors = {
        "a.lora_A.weight": np.zeros((8, 32), np.float32),
        "a.lora_B.weight": np.zeros((32, 8), np.float32),
    }
    save_file(tensors, folder / "adapter_model.safetensors")
    write(folder / "loraloom.json", {"metric_for_best_model": "eval_loss"})


def usual_rows(names: Sequence[str]) -> list[dict[str, Any]]:
    """Only `wide`, where there is one, says something else than the base."""
    return [
        {
            "source": f"如何处理焦虑 {number}？",
            "reference": "先试着和朋友说说自己的事情。",
            "answers": {"base": "先试着睡觉。"}
            | {name: "先试着和朋友睡觉。" if name.startswith("wide") else "先试着睡觉。" for name in names},
        }
        for number in range(3)
    ]


def hostile_rows(names: Sequence[str] = NAMES) -> list[dict[str, Any]]:
    """Every hostile text as source, as reference and as an answer."""
    turned = [HOSTILE[number:] + HOSTILE[:number] for number in range(3)]
    return [
        {"source": source, "reference": reference, "answers": {"base": base} | dict.fromkeys(names, source)}
        for source, reference, base in zip(*turned, strict=True)
    ]


def comparison(what: str, rows: Sequence[dict[str, Any]], names: Sequence[str]) -> dict[str, Any]:
    """As `loraloom compare` writes it; `a@1` and `a@2` are two seeds of `a`."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(name.partition("@")[0], []).append(name)
    figures = {"eval_loss": 2.5, "chrf": 12.0, "exact_match": 0.1, "length_ratio": 0.9, "retain_loss": 3.0}
    models: dict[str, Any] = {"base": {"figures": figures | {"share_changed": 0.0}}}
    for number, name in enumerate(names):
        kinds = {"decoder q": 0.13, "encoder q": 0.011} if has_changed(rows, name) else {"encoder q": 0.00012}
        own = {"chrf": 12 + gain(rows, name) + number, "share_changed": float(has_changed(rows, name))}
        models[name] = {"figures": figures | own, "movement": {"total": max(kinds.values()), "kinds": kinds}}
    document = {
        "format": 1,
        "what": what,
        "time": "2026-11-24T06:30:00+00:00",
        "num_rows": len(rows),
        "num_truncated_sources": 0,
        "took_part_in_a_choice": what == "eval",
        "sentences": [SENTENCES.get(group, f"{group} shows something.") for group in groups],
        "generation": {"max_new_tokens": 40, "num_beams": 1, "top_k": None},
        "models": models,
        "rows": list(rows),
    }
    if rows[0]["reference"] is None:
        return document | {"differences": [], "signatures": {}}
    return document | {
        "signatures": {"chrf": "nrefs:1|case:mixed|version:2.6.0"},
        "differences": [entry for group in groups for entry in differences(rows, group, groups[group][0])],
        "pairs": [
            interval(*pair, "chrf", gain(rows, groups[pair[0]][0]) - gain(rows, groups[pair[1]][0]))
            for pair in combinations(groups, 2)
        ],
        "ranking": list(groups),
        "groups": {group: {"figures": {"chrf": own_interval(models, own)}} for group, own in groups.items()},
        "recommendation": {"experiment": "wide", "sentence": "Take wide: chrF 31.4 on 3 test rows."},
    }


def own_interval(models: Mapping[str, Any], names: Sequence[str]) -> dict[str, float]:
    mean = sum(models[name]["figures"]["chrf"] for name in names) / len(names)
    return {"mean": mean, "low": mean - 1, "high": mean + 1}


def has_changed(rows: Sequence[dict[str, Any]], name: str) -> bool:
    return any(row["answers"][name] != row["answers"]["base"] for row in rows)


def gain(rows: Sequence[dict[str, Any]], name: str) -> float:
    return 19.4 if has_changed(rows, name) else 0.0


def differences(rows: Sequence[dict[str, Any]], group: str, name: str) -> list[dict[str, Any]]:
    length = interval(group, "base", "length_ratio", 0.3) | {"verdict": "no significant difference"}
    return [interval(group, "base", "chrf", gain(rows, name)), length]


def interval(model: str, against: str, metric: str, difference: float) -> dict[str, Any]:
    return {
        "model": model,
        "against": against,
        "metric": metric,
        "difference": difference,
        "low": difference * 0.8,
        "high": difference * 1.2,
        "p_value": 0.0002 if difference else 1.0,
        "verdict": "better" if difference else "nothing changed",
    }
