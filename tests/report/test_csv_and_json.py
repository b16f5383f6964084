"""Markdown, CSV and JSON: nothing computes, nothing links, nothing is lost."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import pytest

from loraloom.errors import RunError
from loraloom.evaluate.metrics import DESCRIPTIONS, METRICS, TRANSLATION_METRICS
from loraloom.report.content import read_content
from loraloom.report.csv_and_json import cell, render_csv, render_json
from loraloom.report.figures import FIGURES, written_difference
from loraloom.report.markdown import render_markdown
from loraloom.report.markdown_text import fenced, plain
from loraloom.text.catalogue import rendered
from loraloom.text.units import percent
from tests.report.runs import FOLDER, HOSTILE, NAMES, hostile_rows, make_run


def test_no_cell_begins_as_a_formula_and_none_is_lost(tmp_path: Path) -> None:
    text = render_csv(read_content(make_run(tmp_path / "run", hostile_rows()).folder))
    head, *rows = csv.reader(io.StringIO(text, newline=""))
    assert head == ["row", "source", "reference", "base", *NAMES]
    assert len(rows) == len(HOSTILE)
    for row in rows:
        assert len(row) == len(head)
        assert not any(value.startswith(tuple("=+-@\t\r\n")) for value in row)
    assert not re.search("[\x00-\x08\x0b-\x1f\u202a-\u202e\ud800-\udfff]", text)


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@A1", "\t=1", "＝1"])
def test_a_formula_becomes_text(text: str) -> None:
    assert cell(text) == f"'{text}"
    assert cell(f"a{text}") == f"a{text}"


def test_csv_without_a_comparison_names_the_command(tmp_path: Path) -> None:
    content = read_content(make_run(tmp_path / "run", compare=()).folder)
    with pytest.raises(RunError, match="loraloom compare run"):
        render_csv(content)


def test_json_has_everything_and_no_folder(tmp_path: Path) -> None:
    text = render_json(read_content(make_run(tmp_path / "run", hostile_rows()).folder))
    text.encode()
    document = json.loads(text)
    assert [row["source"] for row in document["comparison"]["rows"]] == list(HOSTILE)
    assert len(document["experiments"][0]["curves"]["loss"]) == 40
    assert document["experiments"][0]["adapter"]["num_weights"] == 512
    assert "someone" not in text
    assert FOLDER not in text


def test_markdown_puts_every_text_where_nothing_is_read_as_markup(tmp_path: Path) -> None:
    text = render_markdown(read_content(make_run(tmp_path / "run", hostile_rows()).folder))
    outside = re.sub(r"(?ms)^(`{3,})text\n.*?^\1$", "", text)
    assert set(re.findall(r"(?<!\\)</?(\w+)", outside)) <= {"details", "summary", "br"}
    assert "someone" not in text
    assert text.index("did nothing") < text.index("| figure |")


def test_a_fence_is_longer_than_any_in_the_text() -> None:
    assert fenced("a\n````\nb").startswith("`````text\n")


def test_plain_text_mentions_nobody() -> None:
    assert plain("@nobody *x* <b> [a](b)\n#12") == "@\u2060nobody \\*x\\* \\<b\\> \\[a\\](b) #\u206012"


def test_the_table_of_figures_agrees_with_how_they_are_computed() -> None:
    metrics = METRICS | TRANSLATION_METRICS
    assert set(metrics) | set(DESCRIPTIONS) | {
        "eval_loss",
        "retain_loss",
        "share_changed",
        "share_cut",
        "spbleu",  # with a model that is given
    } == set(FIGURES)
    for key, metric in metrics.items():
        assert FIGURES[key].higher_is_better == metric.higher_is_better


def test_a_small_difference_does_not_read_as_zero() -> None:
    assert written_difference("chrf", 0.31, -0.04, 0.66) == ("+0.31", "−0.04", "+0.66")
    assert written_difference("chrf", 5.2, 4.7, 5.8) == ("+5.2", "+4.7", "+5.8")
    assert written_difference("exact_match", 0.02, 0.0, 0.04) == ("+2.0", "0.0", "+4.0")


def test_votes_of_people_are_in_markdown_and_csv(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    without = render_csv(read_content(run.folder))
    shown = {"base": "=1", NAMES[0]: "yes"}
    votes = [{"time": "", "prompt": "which?", "answers": shown, "chosen": each} for each in (NAMES[0], None)]
    (run.folder / "votes.json").write_text(json.dumps({"format": 1, "votes": votes}), encoding="utf-8")
    content = read_content(run.folder)
    text = render_markdown(content)
    assert f"| {plain(NAMES[0])} | 1 of 2 | {shown_share(0.5)} | \\[" in text
    assert f"| base | 0 of 2 | {shown_share(0)} | " in text
    assert "votes that found no difference, counted as shown and not chosen: 1" in text
    assert "Human votes" not in render_markdown(read_content(make_run(tmp_path / "other").folder))
    head, *rows = csv.reader(io.StringIO(render_csv(content), newline=""))
    assert head[-1] == "chosen"
    assert len(rows) == len(without.splitlines()) - 1 + 2
    vote = dict(zip(head, rows[-2], strict=True))
    assert (vote["base"], vote[NAMES[0]]) == ("'=1", "yes")
    assert [(row[0], row[1], row[-1]) for row in rows[-2:]] == [
        ("vote 1", "which?", NAMES[0]),
        ("vote 2", "which?", ""),
    ]
    assert all(row[-1] == "" for row in rows[:-2])


def shown_share(value: float) -> str:
    return str(rendered(percent(value)))


def test_votes_without_a_comparison_are_a_table(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", compare=())
    vote = {"time": "", "prompt": "which?", "answers": {"base": "a", "new": "b"}, "chosen": "new"}
    (run.folder / "votes.json").write_text(json.dumps({"format": 1, "votes": [vote]}), encoding="utf-8")
    lines = render_csv(read_content(run.folder)).splitlines()
    assert lines == ["row,source,reference,base,new,chosen", "vote 1,which?,,a,b,new"]
