"""The verb: which file, which comparison, and every way it says no."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from loraloom.cli import app
from loraloom.commands.report import FILES, FORMATS, write_report
from loraloom.errors import RecipeError, RunError
from loraloom.report.content import read_content
from loraloom.run.events import TrainStep, WarningNote
from tests.report.runs import make_run


@pytest.mark.parametrize("format", FORMATS)
def test_a_report_goes_into_the_run_or_where_it_is_sent(tmp_path: Path, format: str) -> None:
    run = make_run(tmp_path / "run")
    path = write_report(run.folder, format)
    assert path == run.folder / FILES[format]
    other = write_report(run.folder, format, out=tmp_path / "other.txt")
    assert other.read_bytes() == path.read_bytes()
    assert {file.name for file in tmp_path.iterdir()} == {"run", "other.txt"}  # nothing staged is left


def test_csv_files_say_that_they_are_utf8(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    assert write_report(run.folder, "csv").read_bytes().startswith(b"\xef\xbb\xbfrow,source")


def test_an_unknown_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="html, md, json, csv"):
        write_report(make_run(tmp_path / "run").folder, "pdf")


def test_no_run_lists_those_beside_it(tmp_path: Path) -> None:
    make_run(tmp_path / "first")
    with pytest.raises(RunError, match="Allowed: first"):
        write_report(tmp_path / "frist")


def test_an_unknown_comparison_lists_what_is_there(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", compare=("test", "eval"))
    with pytest.raises(RunError, match="Allowed: eval, test"):
        write_report(run.folder, compare_name="tset")


def test_where_nothing_is_compared_an_asked_for_comparison_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="loraloom compare"):
        write_report(make_run(tmp_path / "run", compare=()).folder, compare_name="test")


def test_a_missing_folder_is_named_before_anything_is_written(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    with pytest.raises(RunError, match="mkdir -p"):
        write_report(run.folder, out=tmp_path / "none" / "page.html")
    with pytest.raises(RunError, match="is a folder"):
        write_report(run.folder, out=tmp_path)


def test_the_most_final_comparison_is_shown(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", compare=("prompts", "eval", "test"))
    newer = json.loads((run.comparisons / "test.json").read_text(encoding="utf-8"))
    newer["time"] = "2026-11-25T06:30:00+00:00"
    (run.comparisons / "again.json").write_text(json.dumps(newer), encoding="utf-8")
    (run.comparisons / ".test.partial.jsonl").write_text("{}", encoding="utf-8")
    for expected in ("again", "test", "eval", "prompts"):
        comparison = read_content(run.folder).comparison
        assert comparison is not None
        assert comparison.name == expected
        (run.comparisons / f"{expected}.json").unlink()
    assert read_content(run.folder).comparison is None


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"format": 99}', '{"format": 1, "models": {}}'])
def test_a_damaged_comparison_is_named(tmp_path: Path, text: str) -> None:
    run = make_run(tmp_path / "run")
    (run.comparisons / "test.json").write_text(text, encoding="utf-8")
    with pytest.raises(RunError, match=r"test\.json"):
        write_report(run.folder)


def test_another_damaged_comparison_is_not_in_the_way(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    (run.comparisons / "eval.json").write_text("{", encoding="utf-8")
    comparison = read_content(run.folder).comparison
    assert comparison is not None
    assert comparison.name == "test"


@pytest.mark.parametrize("file", ["provenance.json", "checks.json", "split.json", "result.json"])
@pytest.mark.parametrize("text", ["{", "[1]", '{"experiments": 3, "seeds": 4, "train": 5}'])
def test_any_other_damaged_file_is_an_error_of_the_run(tmp_path: Path, file: str, text: str) -> None:
    run = make_run(tmp_path / "run")
    (run.folder / file).write_text(text, encoding="utf-8")
    with pytest.raises(RunError):
        write_report(run.folder)


def test_a_damaged_adapter_is_named(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    (run.adapters / "wide" / "adapter_model.safetensors").write_bytes(b"\xff" * 20)
    with pytest.raises(RunError, match="adapter_model"):
        write_report(run.folder)


def test_the_command_line(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    runner = CliRunner()
    result = runner.invoke(app, ["report", str(run.folder)])
    assert result.exit_code == 0
    assert result.stdout == f"{run.folder / 'report.html'}\n"
    assert runner.invoke(app, ["report", str(run.folder), "--format", "pdf"]).exit_code == 2
    sent = runner.invoke(app, ["report", str(run.folder), "--format", "json", "--out", "-"])
    assert json.loads(sent.stdout)["name"] == "run"


def test_a_report_needs_neither_torch_nor_transformers(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    code = (
        "import sys; from pathlib import Path; from loraloom.commands.report import write_report; "
        f"write_report(Path({str(run.folder)!r})); "
        "assert not {'torch', 'transformers', 'peft', 'datasets', 'sacrebleu'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_comparison_of_adapters_that_went_on_learning_is_out_of_date(tmp_path: Path) -> None:
    """Interrupted, compared, resumed: its figures are shown as what they are, and recommend nothing."""
    run = make_run(tmp_path / "run")
    fresh = read_content(run.folder)
    assert fresh.comparison is not None
    assert not fresh.comparison.is_stale
    steps = [event for event in run.events() if isinstance(event, TrainStep)]
    later = steps[-1].at("2099-01-01T00:00:00+00:00").to_json()
    with run.events_file.open("a", encoding="utf-8") as file:
        file.write(json.dumps(later) + "\n")
    content, told = read_content(run.folder), []
    assert content.comparison is not None
    assert content.comparison.is_stale
    assert (content.advice.experiment, content.advice.sentence) == (None, "")
    page = write_report(run.folder, report=told.append).read_text("utf-8")
    assert "out of date" in page
    assert isinstance(told[0], WarningNote)
    with pytest.raises(RunError, match=r"no configuration is recommended.*loraloom compare"):
        write_report(run.folder, "recipe")
