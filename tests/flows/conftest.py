"""A project folder as a user has one, and a run trained in it once a session."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.faults.warm import Ended, Warm
from tests.flows.terminals import Terminal
from tests.tiny import SHALLOW

# Stands in every row, and so must stand in no log.
CANARY = "CANARY7f3a"
QUESTIONS = (
    "如何处理焦虑",
    "朋友之间有冲突",
    "学校压力很大",
    "和家里人关系不好",
    "心情不好怎么调节",
    "how do I deal with stress",
)
RECIPE = """\
model_name_or_path: {model}
data: {{train: data.json, eval: 4, test: 4, max_source_length: 48, max_target_length: 32}}
lora: {{r: 4, lora_dropout: 0.1}}
training: {{learning_rate: 1.0e-2, num_train_epochs: 2, per_device_train_batch_size: 4}}
experiments:
  wide: {{}}
  narrow: {{lora: {{target_modules: [q, v]}}}}
generation: {{max_new_tokens: 12}}
"""


def rows(number: int = 24) -> list[dict[str, str]]:
    return [
        {
            "instruction": f"{CANARY} {QUESTIONS[n % len(QUESTIONS)]} {n}？",
            "response": f"先试着把心情调节一下 {n}。",
        }
        for n in range(number)
    ]


def write_json(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1), encoding="utf-8")
    return path


@dataclass(frozen=True)
class Project:
    """A folder with `data.json` and `recipe.yaml`.

    Args:
        folder: the working directory of every command line.
        model: the tiny base that the recipe names.
    """

    warm: Warm
    folder: Path
    model: Path

    def call(self, *argv: str | Path, **how: Any) -> Ended:
        """`loraloom …` in the folder."""
        return self.warm.call(*argv, cwd=self.folder, **how)

    def write_recipe(self, name: str, text: str) -> Path:
        """Another recipe; `{model}` stands for the model."""
        path = self.folder / name
        path.write_text(text.replace("{model}", str(self.model)), encoding="utf-8")
        return path


def make_project(warm: Warm, folder: Path, model: Path) -> Project:
    write_json(folder / "data.json", rows())
    (folder / "recipe.yaml").write_text(RECIPE.format(model=model), encoding="utf-8")
    return Project(warm, folder, model)


@pytest.fixture
def project(warm: Warm, tiny: Callable[[str], Path], tmp_path: Path) -> Project:
    """A fresh one."""
    return make_project(warm, tmp_path, tiny(SHALLOW))


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    """Somebody listens to it."""
    opened = Terminal()
    yield opened
    opened.close()


@dataclass(frozen=True)
class TrainedRun:
    """A project with a finished run of two experiments, `wide` and `narrow`.

    Args:
        run: its folder, `first` in the project's.
        said: what the training wrote.
    """

    project: Project
    run: Path
    said: Ended


@pytest.fixture(scope="session")
def trained(warm: Warm, tiny: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> TrainedRun:
    """One for the session: tests may add comparisons to it and nothing else."""
    project = make_project(warm, tmp_path_factory.mktemp("project"), tiny(SHALLOW))
    said = project.call("train", "recipe.yaml", "--out", "first")
    assert said.code == 0, said.stderr
    return TrainedRun(project, project.folder / "first", said)


@pytest.fixture
def own_run(trained: TrainedRun, tmp_path: Path) -> Path:
    """A copy of the trained run, to do with as one likes; its project's folder is the session's."""
    return Path(shutil.copytree(trained.run, tmp_path / "own"))


def assert_refused(ended: Ended, *said: str) -> None:
    """Exit code 1, the message on stderr with all of this in it, no traceback, no result."""
    assert ended.code == 1, (ended.code, ended.stderr)
    missing = [text for text in said if text not in ended.stderr]
    assert not missing, f"{missing} not in: {ended.stderr}"
    assert "Traceback" not in ended.stderr
    assert ended.stdout == ""
