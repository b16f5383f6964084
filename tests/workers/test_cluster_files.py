"""The files in docs/cluster are valid shell and YAML, and use options that exist."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import typer.main
import yaml

from loraloom.cli.app import make_app

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "cluster"
FILES = sorted(FOLDER.iterdir())


def scripts(file: Path) -> list[str]:
    """The shell in a file."""
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".yaml":
        task = yaml.safe_load(text)
        assert set(task) == {"name", "num_nodes", "resources", "workdir", "setup", "run"}
        return [task["setup"], task["run"]]
    assert text.startswith("#!/bin/bash\n")
    return [text, *re.findall(r"bash -c '([^']+)'", text)]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_shell_is_valid_and_options_exist(file: Path) -> None:
    for script in scripts(file):
        checked = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False)
        assert (checked.returncode, checked.stderr) == (0, "")
    calls = re.findall(r"loraloom (search|train)((?:[^\n\\]|\\\n)*)", "\n".join(scripts(file)))
    assert calls
    for verb, words in calls:
        command = typer.main.get_command(make_app(verb))
        known = {option for each in command.commands[verb].params for option in each.opts}  # type: ignore[attr-defined]
        assert set(re.findall(r"(?<= )--[a-z-]+", words)) <= known


def test_the_page_names_every_file() -> None:
    for page in ("scale.md", "scale.zh.md"):
        text = (FOLDER.parent / page).read_text(encoding="utf-8")
        assert re.findall(r"\(cluster/([^)]+)\)", text) == [
            "slurm-join.sbatch",
            "slurm-ray.sbatch",
            "skypilot-ray.yaml",
        ]
    assert len(FILES) == 3
