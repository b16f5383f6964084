"""`loraloom check`: the data alone, what is allowed, what is shown and how."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len
from transformers import AutoTokenizer

from loraloom.run.documents.checks import read_checks
from tests.flows.conftest import CANARY, Project, TrainedRun, assert_refused, rows, write_json
from tests.flows.terminals import Terminal, fresh

LEAKY = ("--set", "data.eval=eval.json", "--set", "data.test=0")


@pytest.fixture
def leaky(project: Project) -> Project:
    """Its eval file has three rows that are trained on too."""
    write_json(project.folder / "eval.json", rows(3))
    return project


def findings_of(project: Project, *argv: str) -> dict[str, list[dict[str, Any]]]:
    """By the name of their check."""
    ended = project.call("check", "recipe.yaml", *argv, "--json")
    found: dict[str, list[dict[str, Any]]] = {}
    for finding in json.loads(ended.stdout)["findings"]:
        found.setdefault(finding["check"], []).append(finding)
    return found


def words_of(text: str) -> str:
    """Without line breaks, and the frame that usage errors come in."""
    return " ".join(re.sub(r"[│╭╮╰╯─]", " ", text).split())


# --data-only


def test_data_only_loads_no_model_and_not_even_torch(project: Project) -> None:
    ended = fresh("check", "recipe.yaml", "--data-only", "--json", cwd=project.folder)
    assert ended.returncode == 0, ended.stderr
    assert "torch" not in ended.stderr
    assert "transformers" not in ended.stderr
    found = json.loads(ended.stdout)
    assert {"split", "leakage", "lengths", "round-trip"} <= {
        finding["check"] for finding in found["findings"]
    }
    assert "batch" not in found


def test_data_only_needs_no_weights(project: Project, tmp_path: Path) -> None:
    base = tmp_path / "bare"
    base.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (base / name).write_bytes((project.model / name).read_bytes())
    ended = project.call("check", "recipe.yaml", "--data-only", "--set", f"model_name_or_path={base}")
    assert ended.code == 0, ended.stderr
    # What was set is set in the next command too.
    assert ended.stderr.endswith(f"Next: loraloom check recipe.yaml --set model_name_or_path={base}\n")


@pytest.mark.parametrize("model", ["./no-such-folder", "some-owner/no-such-model", "//"])
def test_without_a_tokenizer_its_checks_are_left_out_and_that_is_said(model: str, project: Project) -> None:
    found = findings_of(project, "--data-only", "--set", f"model_name_or_path={model}")
    assert found["lengths"][0]["level"] == "note"
    assert "were not checked" in found["lengths"][0]["message"]
    assert "truncation" not in found


def test_token_checks_wait_for_a_base_without_tokenizer_json(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import loraloom.session.data_checks as workflow
    from loraloom.checks.data.light_tokenizer import NoTokenizerError, TextTokenizer
    from loraloom.commands.check import check
    from loraloom.recipe.reading import read_recipe

    def none_yet(folder: Path) -> TextTokenizer:
        raise NoTokenizerError("it is on the hub")

    recipe = read_recipe(str(project.folder / "recipe.yaml"))

    def of_the_data() -> list[str]:
        found = check(recipe.in_folder(project.folder))  # what the machine has free is another matter
        return sorted(repr(each) for each in found if each.check not in ("memory", "time", "disk"))

    whole = of_the_data()
    monkeypatch.setattr(workflow.TextTokenizer, "of_folder", none_yet)
    late = of_the_data()
    assert late == whole
    assert any("check='round-trip'" in each for each in late)


def test_data_only_and_a_range_test_exclude_each_other(project: Project) -> None:
    ended = project.call("check", "recipe.yaml", "--data-only", "--find-lr")
    assert ended.code == 2
    assert "cannot be combined with" in words_of(ended.stderr)


# --allow


def test_26_leakage_is_refused_with_the_rows_and_the_way_to_allow_it(leaky: Project) -> None:
    for verb in ("check", "train"):
        ended = leaky.call(verb, "recipe.yaml", *LEAKY)
        assert_refused(ended, "eval.json:2", "has the same source as row 1 of data.json:2", "--allow leakage")
    assert not (leaky.folder / "runs").exists()


def test_allowed_leakage_is_a_warning_recorded_in_the_run_and_its_report(leaky: Project) -> None:
    leakage = findings_of(leaky, *LEAKY, "--allow", "leakage")["leakage"][0]
    assert leakage["level"] == "warning"
    assert "3 of 3 (100 %) eval rows" in leakage["message"]
    assert leakage["message"].endswith("(allowed by --allow leakage)")
    short = ("--set", "training.max_steps=1", "--allow", "leakage", "--out", "run")
    ended = leaky.call("train", "recipe.yaml", *LEAKY, *short)
    assert ended.code == 0, ended.stderr
    assert "allowed by --allow leakage" in " ".join(ended.stderr.split())
    run = leaky.folder / "run"
    assert json.loads((run / "provenance.json").read_text())["allowed"] == ["leakage"]
    assert leakage in [finding.to_json() for finding in read_checks(run / "checks.json")]
    for format in ("html", "md", "json"):
        shown = leaky.call("report", "run", "--format", format, "--out", "-")
        assert shown.code == 0, shown.stderr
        assert "allowed by --allow leakage" in shown.stdout.replace("\\", "")


def test_a_resumed_run_keeps_what_was_allowed(leaky: Project) -> None:
    short = ("--set", "training.max_steps=2", "--allow", "leakage", "--out", "run")
    assert leaky.call("train", "recipe.yaml", *LEAKY, *short).code == 0
    run = leaky.folder / "run"
    (run / "result.json").unlink()
    before = json.loads((run / "checks.json").read_text())
    ended = leaky.call("train", "--resume", "run")
    assert ended.code == 0, ended.stderr
    assert json.loads((run / "provenance.json").read_text())["allowed"] == ["leakage"]
    assert json.loads((run / "checks.json").read_text()) == before


def test_a_search_can_be_allowed_the_same(leaky: Project) -> None:
    write = leaky.write_recipe(
        "one.yaml", (leaky.folder / "recipe.yaml").read_text().partition("experiments:")[0]
    )
    (leaky.folder / "space.yaml").write_text("training.learning_rate: [1.0e-3, 1.0e-2]\n")
    argv = ("search", write.name, "--space", "space.yaml", "--trials", "2", "--sampler", "grid", *LEAKY)
    assert_refused(leaky.call(*argv), "--allow leakage")
    ended = leaky.call(*argv, "--allow", "leakage", "--out", "run", "--set", "training.max_steps=1")
    assert ended.code == 0, ended.stderr
    assert json.loads((leaky.folder / "run" / "provenance.json").read_text())["allowed"] == ["leakage"]


def test_a_check_error_refuses_training_and_leaves_nothing(project: Project) -> None:
    same = [{"instruction": f"问题 {n} 是什么？", "response": "好的。"} for n in range(40)]
    write_json(project.folder / "same.json", same)
    ended = project.call("train", "recipe.yaml", "--set", "data.train=same.json")
    assert_refused(
        ended, "CheckError: ", "check `alike` failed", "same response", "accept it with --allow alike"
    )
    assert not list((project.folder / "runs").glob("*"))
    checked = project.call("check", "recipe.yaml", "--set", "data.train=same.json")
    assert checked.code == 1
    assert "error alike: same.json:" in checked.stdout
    assert "Next:" not in checked.stderr
    allowed = project.call("check", "recipe.yaml", "--set", "data.train=same.json", "--allow", "alike")
    assert allowed.code == 0, allowed.stdout


@pytest.mark.parametrize("verb", ["check", "train", "search"])
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("leekage", ("there is no data check `leekage`", "Did you mean `leakage`?", "personal-data")),
        ("labels", ("`labels` cannot be allowed", "learn something wrong")),
    ],
)
def test_what_cannot_be_allowed_is_a_usage_error(
    verb: str, name: str, said: tuple[str, ...], project: Project
) -> None:
    more = ("--space", "space.yaml", "--trials", "2") if verb == "search" else ()
    ended = project.call(verb, "recipe.yaml", *more, "--allow", name, COLUMNS="200")
    assert ended.code == 2
    assert all(part in words_of(ended.stderr) for part in said), ended.stderr
    assert not (project.folder / "runs").exists()


# What is shown


def test_three_rows_are_shown_as_the_model_sees_them(project: Project) -> None:
    ended = project.call("check", "recipe.yaml", COLUMNS="80")
    titles = [
        line for line in ended.stdout.splitlines() if re.match("(short|median|long) row, data.json:", line)
    ]
    assert [title.split()[0] for title in titles] == ["short", "median", "long"]
    views = json.loads(project.call("check", "recipe.yaml", "--json").stdout)["batch"]
    tokenizer = AutoTokenizer.from_pretrained(project.model)
    by_place = {f"data.json:{4 * n + 2}": row for n, row in enumerate(rows())}
    for view in views:
        row = by_place[view["where"]]
        for side, padding in zip(("encoder", "labels"), view["padding"], strict=True):
            view[side] = view[side][: len(view[side]) - padding]
        assert view["encoder"] == tokenizer.convert_ids_to_tokens(tokenizer(row["instruction"])["input_ids"])
        assert view["labels"] == tokenizer.convert_ids_to_tokens(tokenizer(row["response"])["input_ids"])
        assert view["decoder"][: len(view["labels"])] == ["<pad>", *view["labels"][:-1]]
        assert view["labels"][-1] == "</s>"
        assert "".join(view["encoder"]).startswith(CANARY)
    assert CANARY not in ended.stderr


def test_cut_rows_are_marked_and_padding_does_not_count(project: Project) -> None:
    sets = ("--set", "training.packing=false", "--set", "data.max_target_length=6")
    views = json.loads(project.call("check", "recipe.yaml", *sets, "--json").stdout)["batch"]
    for view in views:
        assert view["is_cut"] == [False, True]
        assert len(view["labels"]) == len(view["decoder"]) == 6
        # Padding is shown where it is, behind the tokens, and its label is none.
        pads = view["padding"][0]
        assert view["encoder"][len(view["encoder"]) - pads :] == ["<pad>"] * pads
    assert [view["padding"][0] > 0 for view in views] == [True, True, False]
    shown = words_of(project.call("check", "recipe.yaml", *sets).stdout)
    assert "6 target tokens (cut), 6 counted in the loss" in shown
    assert f"padding: {views[0]['padding'][0]} source, 0 target positions, ignored by the loss" in shown


@pytest.mark.parametrize("width", [60, 80, 140])
def test_chinese_and_control_characters_keep_the_columns(width: int, project: Project) -> None:
    sources = [f"心情 {n}\x9b\u202e\n你好{'很' * n}" for n in range(24)]
    write_json(project.folder / "odd.json", [{"instruction": s, "response": f"{s}好"} for s in sources])
    shown = project.call("check", "recipe.yaml", "--set", "data.train=odd.json", COLUMNS=str(width)).stdout
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]", shown)
    lines = shown.splitlines()
    head = next(line for line in lines if "encoder reads" in line)
    place = cell_len(head.partition("decoder")[0])
    start = lines.index(head) + 1
    for line in lines[start : start + 5]:
        left = ""
        for char in line:
            if cell_len(left) >= place:
                break
            left += char
        assert cell_len(left) == place
        assert left.endswith(" ")


def test_findings_in_a_pipe_are_paragraphs_of_readable_width(project: Project) -> None:
    ended = project.call("check", "recipe.yaml", "--set", "data.max_target_length=4", COLUMNS="300")
    assert max(map(cell_len, ended.stdout.splitlines())) <= 100
    text = ended.stdout[ended.stdout.index("warning ") :]
    assert re.search(r"^warning truncation: data\.max_target_length:\n  \d+ of \d+ ", text, re.MULTILINE)
    assert re.search(r"^  → Set data\.max_target_length: \d+\.$", text, re.MULTILINE)
    assert "passed (`--all` shows them): " in text
    assert "\nok labels" not in text
    everything = project.call("check", "recipe.yaml", "--all").stdout
    assert "\nok labels" in everything
    assert "`--all` shows them" not in everything


@pytest.mark.parametrize("width", [60, 130])
def test_findings_on_a_terminal_fit_it(width: int, trained: TrainedRun, terminal: Terminal) -> None:
    how = {"stdout": terminal.path, "COLUMNS": str(width), "TERM": "xterm"}
    ended = trained.project.call("check", "recipe.yaml", **how)
    assert ended.code == 0
    assert max(map(cell_len, terminal.shown.splitlines())) <= width
    assert ("level " in terminal.shown) == (width == 130)


def test_train_shows_no_row(trained: TrainedRun) -> None:
    ended = trained.said
    assert "step" in ended.stderr
    assert CANARY not in ended.stdout + ended.stderr
    assert "encoder reads" not in ended.stdout + ended.stderr
