"""The commands of the READMEs do what the READMEs say."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

from loraloom.recipe.reading import parse_recipe
from loraloom.search.space_file import read_space
from tests.faults.warm import Warm

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CHINESE = (ROOT / "README.zh.md").read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def without_comments(script: str) -> list[str]:
    return [line.split("#")[0].strip() for line in script.splitlines() if line.strip()]


def test_both_languages_show_the_same_commands() -> None:
    ours, theirs = (
        [line for block in blocks(text, "sh") for line in without_comments(block)]
        for text in (README, CHINESE)
    )
    assert ours == theirs
    assert len(ours) >= 7


def test_the_recipe_and_the_space_that_are_shown_are_such(tmp_path: Path) -> None:
    for text in (README, CHINESE):
        shown, searched = blocks(text, "yaml")
        space = tmp_path / "space.yaml"
        space.write_text(searched, encoding="utf-8")
        keys = {
            dimension.key for dimension in read_space(space, parse_recipe(shown, name="README")).dimensions
        }
        assert keys == {"lora.r", "training.learning_rate"}
        assert [e.name for e in parse_recipe(shown, name="README").resolved_experiments] == [
            "all",
            "narrow",
            "slow",
        ]


def test_the_commands_run_in_the_order_they_are_shown(warm: Warm, tmp_path: Path) -> None:
    """The first in a shell, by the installed command; the others without its imports to wait for.

    The proof of the merge is in a fresh process, as it is for users.
    """
    rows = [
        {
            "instruction": f"如何面对{what}{when}？",
            "response": f"面对{what}{when}，先停下来深呼吸，再慢慢想。",
        }
        for what in ("考试", "搬家", "争吵", "失眠", "比赛", "转学")
        for when in ("之前", "之后", "的压力", "的烦恼")
    ]
    (tmp_path / "my.json").write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    activate, first, *others = [line for block in blocks(README, "sh") for line in without_comments(block)]
    assert activate == ". .venv/bin/activate"  # PATH says the same below
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    shell = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", first],
        cwd=tmp_path,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert shell.returncode == 0, shell.stderr
    for command in others:
        words, _, target = command.partition(" > ")
        program, *argv = shlex.split(words)
        assert program == "loraloom"
        out = tmp_path / target if target else None
        ended = warm.call(*argv, cwd=tmp_path, stdout=out, faults={"fresh": True})
        assert ended.code == 0, (command, ended.stderr)
    assert (tmp_path / "runs" / "first" / "report.html").is_file()
    assert (tmp_path / "merged" / "model.safetensors").is_file()
    answers = (tmp_path / "answers.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["row"] for line in answers] == list(range(1, len(rows) + 1))
