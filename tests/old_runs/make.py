"""How `tests/old_runs/v0.1` was made: by LoRALoom 0.1 (commit a236a0a), run there once and kept.

python tests/old_runs/make.py OUT

A newer version writes other runs, so running this again there makes no old runs. Sources are longer
than `max_source_length` on purpose, conversations have several turns, and the TSV has quotes in it:
these are read otherwise since, and a run of 0.1 must keep the meaning that it was trained with.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.tiny import make_folder

QUESTIONS = (
    "如何处理焦虑",
    "朋友之间有冲突",
    "学校压力很大",
    "和家里人关系不好",
    "心情不好怎么调节",
    "工作太忙",
)
LORA = "{r: 2, lora_dropout: 0.1, target_modules: [q, v]}"
TRAINING = (
    "{learning_rate: 1.0e-2, max_steps: 60, per_device_train_batch_size: 4, eval_strategy: steps, "
    "eval_steps: 20, save_strategy: steps, save_steps: 2}"
)
RECIPE = f"""\
model_name_or_path: base
data: {{train: DATA, eval: 4, test: 4, max_source_length: 24, max_target_length: 16}}
lora: {LORA}
training: {TRAINING}
generation: {{max_new_tokens: 8}}
device: cpu
dtype: float32
"""


def write_data(folder: Path) -> None:
    rows = [
        {
            "instruction": f"{QUESTIONS[n % 6]}{'，我自己也不知道' * (n % 3 + 1)} {n}？",
            "response": f"先试着说 {n}。",
        }
        for n in range(24)
    ]
    (folder / "rows.json").write_text(json.dumps(rows, ensure_ascii=False, indent=1), encoding="utf-8")
    lines = ["instruction\tresponse"]
    lines += [f'"{row["instruction"]}"\t"{row["response"]}"' for row in rows]
    (folder / "rows.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    talks = [
        {
            "conversation": [
                {"input": f"{QUESTIONS[n % 6]} {n}？", "output": f"可以说说怎么样吗 {n}"},
                {"input": f"那怎么做 {n}？", "output": f"先慢慢来 {n}。"},
            ]
        }
        for n in range(16)
    ]
    (folder / "talks.json").write_text(json.dumps(talks, ensure_ascii=False, indent=1), encoding="utf-8")


def write_recipes(folder: Path) -> None:
    plain = RECIPE.replace("DATA", "rows.json")
    (folder / "recipe.yaml").write_text(plain + "experiments: {wide: {lora: {r: 4}}, narrow: {}}\n")
    (folder / "tsv.yaml").write_text(RECIPE.replace("DATA", "rows.tsv"))
    (folder / "talks.yaml").write_text(RECIPE.replace("DATA", "talks.json, conversation_history: true"))
    (folder / "space.yaml").write_text("training.learning_rate: [1.0e-3, 1.0e-2]\nlora.r: [2, 4]\n")


def call(folder: Path, *words: str) -> None:
    subprocess.run(["loraloom", *words], cwd=folder, check=True)


def interrupt(folder: Path, recipe: str, run: str, *, after: int) -> None:
    """Train until the log has this many steps, then SIGTERM."""
    log = folder / run / "events.jsonl"
    process = subprocess.Popen(["loraloom", "train", recipe, "--out", run], cwd=folder)
    while not log.is_file() or log.read_text().count('"event": "train"') < after:
        time.sleep(0.01)
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 128 + signal.SIGTERM


def main(folder: Path) -> None:
    folder.mkdir(parents=True)
    make_folder(folder / "base", "mt5")
    write_data(folder)
    write_recipes(folder)
    for recipe, run in (("recipe.yaml", "finished"), ("tsv.yaml", "tsv"), ("talks.yaml", "talks")):
        call(folder, "train", recipe, "--out", run)
        call(folder, "compare", run)
        interrupt(folder, recipe, f"{run}-interrupted", after=20)
    call(
        folder,
        "search",
        "recipe.yaml",
        "--space",
        "space.yaml",
        "--trials",
        "4",
        "--set",
        "experiments=",
        "--set",
        "training.max_steps=6",
        "--set",
        "training.eval_steps=2",
        "--out",
        "search",
    )
    call(folder, "check", "recipe.yaml", "--find-lr", "--set", "experiments=", "--out", "range_test")
    for provenance in folder.glob("*/provenance.json"):
        without_machine(provenance, folder)
    for remnant in folder.glob("*/.lock"):
        remnant.unlink()


def without_machine(provenance: Path, folder: Path) -> None:
    """Leave no path of this machine in them; `tests/commands/test_old_runs.py` puts its own there."""
    text = provenance.read_text(encoding="utf-8")
    provenance.write_text(text.replace(str(folder.resolve()), "OLD_RUNS"), encoding="utf-8")


if __name__ == "__main__":
    out = Path(sys.argv[1])
    shutil.rmtree(out, ignore_errors=True)
    main(out)
