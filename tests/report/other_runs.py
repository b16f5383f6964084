"""Runs of plain files that are a search, or a range test of the learning rate."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from loraloom.run.folder import Run
from tests.report.runs import FOLDER, make_run

RATES = (1e-5, 1e-4, 1e-3, 1e-2)
STATUSES = ("done", "pruned", "done", "failed")


def make_search(folder: Path, *, compare: tuple[str, ...] = ()) -> Run:
    trials = [
        {
            "name": f"trial-{number:04d}",
            "parameters": {"training.learning_rate": rate, "lora.target_modules": targets},
            "status": status,
            "figure": None if status == "failed" else 2.5 - number / 10,
            "steps": 40,
            "best_step": None if status == "failed" else 30,
            "forgetting": None,
            "rungs": {},
            "reason": f"loss nan at step 3 of {FOLDER}/data.json" if status == "failed" else "",
        }
        for number, (rate, status, targets) in enumerate(
            zip(RATES, STATUSES, (["q", "v"], "all-linear", "all-linear", ["q"]), strict=True)
        )
    ]
    kept = [trial for trial in trials if trial["status"] != "pruned"]
    changes = {
        str(trial["name"]): {
            "training": {"learning_rate": trial["parameters"]["training.learning_rate"]},  # type: ignore[index]
            "lora": {"target_modules": trial["parameters"]["lora.target_modules"]},  # type: ignore[index]
        }
        for trial in kept
    }
    run = make_run(folder, compare=compare, names=list(changes), changes=changes)
    document: dict[str, Any] = {
        "format": 1,
        "metric": "eval_loss",
        "higher_is_better": False,
        "best": "trial-0002",
        "trials": trials,
        "importances": {"training.learning_rate": 0.8, "lora.target_modules": 0.2},
    }
    (folder / "search.json").write_text(json.dumps(document), encoding="utf-8")
    return run


TESTED_RATES = {"1e-05": 1e-5, "0.001": 1e-3, "0.03": 3e-2}
REASON = "0.001 lowered the eval loss by 1.000 in 30 steps."


def make_range_test(folder: Path, lora: str = "") -> Run:
    changes = {name: {"training": {"learning_rate": rate}} for name, rate in TESTED_RATES.items()}
    run = make_run(folder, compare=(), names=list(TESTED_RATES), changes=changes)
    with run.recipe_file.open("a", encoding="utf-8") as file:
        file.write(lora)
    shutil.rmtree(run.adapters)
    document = {
        "format": 1,
        "experiment": "main",
        "num_steps": 30,
        "num_eval_rows": 6,
        "base_eval_loss": 4.0,
        "results": [
            {"learning_rate": 1e-5, "eval_loss": 3.9, "gain": 0.1},
            {"learning_rate": 1e-3, "eval_loss": 3.0, "gain": 1.0},
            {"learning_rate": 3e-2, "eval_loss": None, "gain": None},
        ],
        "suggestion": 1e-3,
        "reason": REASON,
    }
    (folder / "range_test.json").write_text(json.dumps(document), encoding="utf-8")
    return run
