"""A wheel that was installed into a clean environment does what the README says, offline."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.release.conftest import Installed
from tests.scripts.copied import SCRIPT

Call = Callable[..., subprocess.CompletedProcess[str]]
PAGE = Path(__file__).resolve().parents[2] / "docs" / "api.md"


def test_the_package_is_the_wheels_and_needs_no_extra(installed: Installed, loraloom: Call) -> None:
    found = installed.run("python", "-c", "import loraloom; print(loraloom.__file__)")
    assert Path(found.stdout.strip()).is_relative_to(installed.folder)
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", loraloom("--version").stdout)
    for package in ("pyarrow", "datasets", "pandas", "fastapi"):
        assert installed.run("python", "-c", f"import {package}").returncode == 1


def test_the_demo_ends_with_a_report(installed: Installed, loraloom: Call) -> None:
    ended = loraloom("demo", "--out", "shown")
    assert ended.returncode == 0, ended.stderr
    assert (installed.work / "shown" / "report.html").is_file()
    assert "answers better than the base" in ended.stdout


def test_the_examples_of_the_api_run(installed: Installed) -> None:
    rows = [{"instruction": f"学校压力 {n} how?", "response": f"先慢慢来 {n}。"} for n in range(16)]
    lines = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    (installed.work / "my.jsonl").write_text(lines, encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    (installed.work / "page.py").write_text("\n".join(blocks), encoding="utf-8")
    ended = installed.run("python", "page.py")
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize(
    ("argv", "extra"),
    [
        (("ui",), "web"),
        (("serve", "shown"), "web"),
        (("init", "rows.parquet"), "parquet"),
        (("export", "shown", "out", "--format", "ctranslate2"), "ctranslate2"),
    ],
)
def test_a_missing_extra_is_named_with_its_install_line(
    argv: tuple[str, ...], extra: str, installed: Installed, loraloom: Call
) -> None:
    (installed.work / "rows.parquet").write_bytes(b"PAR1")
    ended = loraloom(*argv)
    assert ended.returncode == 1, ended.stdout
    assert f"pip install 'loraloom[{extra}]'" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_it_speaks_chinese_and_reads_scripts(installed: Installed, loraloom: Call) -> None:
    assert "检查" in loraloom("--help", LORALOOM_LANG="zh").stdout
    (installed.work / "train.py").write_text(SCRIPT.replace("3e-4", "2e-5"), encoding="utf-8")
    ended = loraloom("check", "train.py")
    assert ended.returncode == 0, ended.stderr
    assert "is a rate for training all weights" in ended.stdout
    assert "model_name_or_path: google/flan-t5-base" in ended.stdout
