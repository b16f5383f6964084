"""What is written where: terminals, pipes, pipes that close, locales; and `--help`, which is instant."""

from __future__ import annotations

import json
import re
import resource
from pathlib import Path

import pytest
from rich.cells import cell_len

from tests.flows.conftest import TrainedRun
from tests.flows.terminals import Terminal, fresh

SECONDS_OF_HELP = 1.0
UNREAD = Path("|")


VERBS = ("init", "check", "train", "compare", "predict", "runs", "recipe-schema")


def test_help_imports_nothing_heavy_and_is_quick() -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    ended = fresh("--help")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert ended.returncode == 0
    assert all(f" {verb} " in ended.stdout for verb in VERBS)
    assert ended.stderr == "[]\n"
    assert after.ru_utime - before.ru_utime < SECONDS_OF_HELP


@pytest.mark.parametrize(
    "argv", [("train", "--help"), ("--version",), ("runs",), ("recipe-schema",), ("init", "data.json")]
)
def test_what_needs_no_model_imports_nothing_heavy(argv: tuple[str, ...], trained: TrainedRun) -> None:
    ended = fresh(*argv, cwd=trained.project.folder)
    assert ended.returncode == 0
    assert ended.stderr.endswith("[]\n")


def test_complaints_about_recipe_and_data_import_nothing_heavy(trained: TrainedRun, tmp_path: Path) -> None:
    data = tmp_path / "bad.json"
    data.write_text('[{"instruction": "x"}]')
    for options, kind in (((), "RecipeError"), (("--set", f"data.train={data}"), "DataError")):
        sets = options or ("--set", "lora.rnk=4")
        for verb in ("check", "train"):
            ended = fresh(verb, "recipe.yaml", *sets, cwd=trained.project.folder)
            assert ended.returncode == 1
            assert ended.stderr.startswith(f"{kind}: ")
            assert ended.stderr.endswith("\n[]\n")


WIDTH = 40


@pytest.mark.parametrize(
    "argv",
    [("check", "recipe.yaml"), ("runs", "."), ("--help",), ("train", "recipe.yaml", "--resume", "first")],
)
def test_a_narrow_terminal_cuts_nothing(
    argv: tuple[str, ...], trained: TrainedRun, terminal: Terminal
) -> None:
    ended = trained.project.call(*argv, stdout=terminal.path, COLUMNS=str(WIDTH), TERM="xterm")
    assert ended.code == 0
    shown = terminal.shown
    assert max(map(cell_len, shown.splitlines())) <= WIDTH
    assert "…" not in shown
    if argv[0] == "check":
        assert "ok targets: wide: lora.target_modules: `all-linear` matches 18 linears" in " ".join(
            shown.split()
        )


def test_a_live_line_where_stderr_is_a_terminal(
    trained: TrainedRun, terminal: Terminal, tmp_path: Path
) -> None:
    how = {"stderr": terminal.path, "COLUMNS": "100", "TERM": "xterm"}
    ended = trained.project.call("train", "recipe.yaml", "--out", tmp_path / "run", **how)
    assert ended.code == 0
    assert ended.stdout.splitlines()[0].split()[0] == "experiment"
    assert "━" in terminal.written
    assert "\x1b[?25h" in terminal.written  # the cursor is shown again
    assert terminal.shown.rstrip().endswith(f"Next: loraloom compare {tmp_path / 'run'}")


def test_piped_tables_are_as_wide_as_their_text(trained: TrainedRun) -> None:
    ended = trained.project.call("runs", ".", COLUMNS=str(WIDTH))
    lines = ended.stdout.splitlines()
    assert max(map(len, lines)) > WIDTH
    assert len(lines) == 2  # a heading, and one line a run
    assert "\x1b" not in ended.stdout + ended.stderr


@pytest.mark.parametrize("verb", ["predict", "compare", "check", "runs", "recipe-schema", "init"])
def test_a_reader_that_has_enough_is_no_failure(verb: str, trained: TrainedRun) -> None:
    """`loraloom … | head`"""
    argv = {
        "predict": ("first", "data.json", "--experiment", "base"),
        "compare": ("first", "--name", "piped"),
        "check": ("recipe.yaml",),
        "runs": (".",),
        "recipe-schema": (),
        "init": ("data.json",),
    }[verb]
    for options in ((), ("--json",)) if verb != "recipe-schema" else ((),):
        ended = trained.project.call(verb, *argv, *options, stdout=UNREAD)
        assert ended.code == 0, ended.stderr
        assert "rror" not in ended.stderr


def test_findings_count_though_nobody_reads_them(trained: TrainedRun) -> None:
    assert trained.project.call("check", "recipe.yaml", "--set", "lora.r=0", stdout=UNREAD).code == 1


def test_training_goes_on_when_nobody_reads_its_progress(trained: TrainedRun, tmp_path: Path) -> None:
    """`loraloom train … 2>&1 | head`"""
    run = tmp_path / "run"
    ended = trained.project.call("train", "recipe.yaml", "--out", run, stdout=UNREAD, stderr=UNREAD)
    assert ended.code == 0
    assert (run / "result.json").is_file()


def test_a_full_disk_behind_stdout_is_said(trained: TrainedRun) -> None:
    for argv in (
        ("predict", "first", "data.json", "--experiment", "base"),
        ("runs", "."),
        ("init", "data.json", "--json"),
    ):
        ended = trained.project.call(*argv, stdout=Path("/dev/full"))
        assert ended.code == 1
        assert ended.stderr.splitlines()[-1] == "OSError: No space left on device"
        assert "Traceback" not in ended.stderr


def test_results_are_utf8_in_every_locale(trained: TrainedRun) -> None:
    for argv in (
        ("compare", "first", "--name", "locale"),
        ("predict", "first", "data.json", "--experiment", "base"),
        ("predict", "first", "data.json", "--experiment", "base", "--json"),
        ("check", "recipe.yaml"),
    ):
        plain = trained.project.call(*argv)
        for encoding in ("ascii", "gbk"):
            ended = trained.project.call(*argv, PYTHONIOENCODING=encoding)
            assert ended.code == 0, ended.stderr
            assert ended.stdout == plain.stdout


def test_a_plain_c_locale(trained: TrainedRun) -> None:
    ended = fresh("init", "data.json", "--json", cwd=trained.project.folder, LANG="C", LC_ALL="C")
    assert ended.returncode == 0
    assert "recipe" in json.loads(ended.stdout)


def test_control_characters_of_a_text_do_not_reach_the_terminal(trained: TrainedRun, tmp_path: Path) -> None:
    asked = "好\x1b[2J\u202e\x9b你"
    file = tmp_path / "prompts.txt"
    file.write_text(f"{asked}\n", encoding="utf-8")
    ended = trained.project.call("compare", "first", "--prompts", file, "--name", "control")
    assert ended.code == 0, ended.stderr
    assert "好\\x1b[2J\\u202e\\x9b你" in ended.stdout
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", ended.stdout)
    predicted = trained.project.call("predict", "first", file, "--experiment", "base")
    assert json.loads(predicted.stdout)["source"] == asked
