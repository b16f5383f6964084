"""What a person asked is in every report, base and adapters side by side, besides any test rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from loraloom.commands.report import write_report
from loraloom.report.content import read_content
from loraloom.report.csv_and_json import render_json
from loraloom.report.markdown import render_markdown
from loraloom.report.page import FIRST_PROMPTS, MOST_PROMPTS, render_page
from loraloom.report.unfinished_comparisons import lock_file, partial_file
from loraloom.run.folder import Run
from loraloom.run.lock import locked
from tests.events import message_of, train_step
from tests.report.parsed import Page
from tests.report.runs import HOSTILE, NAMES, comparison, hostile_rows, make_run, write


def asked(texts: list[str], **answers: str) -> list[dict[str, Any]]:
    own = dict.fromkeys(("base", *NAMES), "睡觉") | answers
    return [{"source": text, "reference": None, "answers": own} for text in texts]


def with_prompts(folder: Path, **comparisons: list[dict[str, Any]]) -> Run:
    """A run with test rows, and comparisons of prompts by name."""
    run = make_run(folder / "run")
    for number, (name, rows) in enumerate(comparisons.items()):
        document = comparison("prompts", rows, NAMES) | {"time": f"2026-11-24T07:{number:02}:00+00:00"}
        write(run.comparisons / f"{name}.json", document)
    return run


def page_of(run: Run, name: str | None = None) -> Page:
    return Page(render_page(read_content(run.folder, name)))


def section(words: str) -> str:
    """The words between the heading of the prompts and the next."""
    return words.partition(" Prompts Answers of the base")[2].partition(" Figures Each experiment")[0]


def test_prompts_stand_in_a_section_of_their_own_beside_test_rows(tmp_path: Path) -> None:
    run = with_prompts(tmp_path, prompts=asked(["如何处理压力？", "怎么交朋友？"], wide="慢慢来"))
    words = section(page_of(run).words)
    for number, text in enumerate(("如何处理压力？", "怎么交朋友？"), 1):
        # By the ranking: the base, wide, then slow.
        wide = "wide entirely different 慢慢来 slow the same as the base"
        assert f"{number} {text} base 睡觉 {wide}" in words
    assert "on 3 test rows" in page_of(run).words
    assert [given["href"] for given in page_of(run).classes("number")][:2] == ["#prompt-1-1", "#prompt-1-2"]


def test_every_comparison_of_prompts_is_there_the_newest_first_and_none_twice(tmp_path: Path) -> None:
    run = with_prompts(tmp_path, early=asked(["早"]), late=asked(["晚"]), later=asked(["更晚"]))
    content = read_content(run.folder)
    assert [each.name for each in content.prompts] == ["later", "late", "early"]
    words = section(page_of(run).words)
    assert words.index("later 2026-11-24 07:02") < words.index("late 2026-11-24 07:01") < words.index("early")
    chosen = read_content(run.folder, "late")
    assert chosen.comparison is not None
    assert (chosen.comparison.name, [each.name for each in chosen.prompts]) == ("late", ["later", "early"])
    ids = [given["id"] for _, given in page_of(run).tags if given.get("id")]
    assert len(ids) == len(set(ids))


def test_asked_again_the_new_answers_are_shown(tmp_path: Path) -> None:
    run = with_prompts(tmp_path, prompts=asked(["旧问题"]))
    write(run.comparisons / "prompts.json", comparison("prompts", asked(["新问题"]), NAMES))
    assert "新问题" in section(page_of(run).words)
    assert "旧问题" not in page_of(run).words


def test_without_prompts_there_is_no_section(tmp_path: Path) -> None:
    page = page_of(make_run(tmp_path / "run"))
    assert not section(page.words)
    assert not [given for _, given in page.tags if given.get("href") == "#prompts"]


def test_hostile_prompts_stay_text_on_the_page_and_in_markdown(tmp_path: Path) -> None:
    plain = with_prompts(tmp_path / "plain", prompts=asked(["a"] * len(HOSTILE)))
    hostile = with_prompts(
        tmp_path / "hostile", prompts=[{**r, "reference": None} for r in hostile_rows()[::-1]]
    )
    kinds = [{(tag, *sorted(given)) for tag, given in page_of(run).tags} for run in (plain, hostile)]
    marks = {("mark",), ("mark", "class"), ("span", "class"), ("p", "class"), ("p", "class", "dir", "lang")}
    assert kinds[1] - kinds[0] <= marks
    assert not {name for _, given in page_of(hostile).tags for name in given if name.startswith("on")}
    words = page_of(hostile).words
    assert "<script>alert(1)</script>" in words
    assert "{{ 7 * 7 }}" in words
    markdown = render_markdown(read_content(hostile.folder))
    block = markdown.partition("### Prompts")[2]
    assert "\x1b" not in block
    fences = [line for line in block.splitlines() if line.startswith("```") and set(line) <= {"`", *"text"}]
    assert any(len(fence.removesuffix("text")) > 3 for fence in fences)  # longer than the text's own


def test_a_page_holds_many_prompts_and_says_where_the_others_are(tmp_path: Path) -> None:
    num = MOST_PROMPTS + 5
    run = with_prompts(tmp_path, many=asked([f"问题 {n}" for n in range(num)]))
    page = page_of(run)
    assert f"The other {MOST_PROMPTS - FIRST_PROMPTS}" in page.words
    assert f"问题 {MOST_PROMPTS - 1} " in page.words
    assert f"问题 {MOST_PROMPTS} " not in page.words
    assert f"--compare many shows all {num}" in page.words
    markdown = render_markdown(read_content(run.folder))
    assert f"{num - 10} rows more: `loraloom report run --compare many --format csv` writes them." in markdown


def test_markdown_and_json_have_them_too(tmp_path: Path) -> None:
    run = with_prompts(tmp_path, prompts=asked(["如何处理压力？"], wide="慢慢来"))
    content = read_content(run.folder)
    block = "### Prompts\n\n```text\n1. 如何处理压力？\nbase: 睡觉\nwide: 慢慢来\nslow: 睡觉\n```"
    assert block in render_markdown(content)
    assert json.loads(render_json(content))["prompts"][0]["rows"][0]["answers"]["wide"] == "慢慢来"


def test_prompts_of_earlier_adapters_are_marked_so(tmp_path: Path) -> None:
    run = with_prompts(tmp_path, prompts=asked(["问"]))
    later = train_step(99, "wide").at("2026-11-24T08:00:00+00:00").to_json()
    with run.events_file.open("a", encoding="utf-8") as file:
        file.write(json.dumps(later | {"experiment_step": 99, "loss": 1.0, "learning_rate": 1e-4}) + "\n")
    assert "Training continued after this comparison" in section(page_of(run).words)
    assert (
        "Training continued after this comparison"
        in render_markdown(read_content(run.folder)).partition("### Prompts")[2]
    )


@pytest.mark.parametrize("is_running", [True, False])
def test_a_comparison_under_way_is_said(tmp_path: Path, is_running: bool) -> None:
    run = with_prompts(tmp_path, prompts=asked(["问"]))
    header = {"format": 2, "key": "…", "num_rows": 300}
    partial_file(run.comparisons, "test").write_text(json.dumps(header) + "\n{", encoding="utf-8")
    told: list[str] = []

    def look() -> None:
        said = {
            True: "The comparison `test` of 300 rows is still running; its answers are not shown yet.",
            False: "A comparison `test` of 300 rows was interrupted, so its answers are not shown. The same "
            "`loraloom compare` command resumes it.",
        }[is_running]
        assert said.replace("`", "") in page_of(run).words
        assert said.replace("`", "\\`") in render_markdown(read_content(run.folder))
        write_report(run.folder, report=lambda event: told.append(message_of(event)))
        assert said in told

    if is_running:
        with locked(lock_file(run.comparisons, "test"), is_temporary=True):
            look()
    else:
        look()
    partial_file(run.comparisons, "test").write_text('{"key": "as 0.1 wrote it"}\n', encoding="utf-8")
    assert not read_content(run.folder).under_way


def test_a_damaged_comparison_besides_costs_no_report_and_is_said(tmp_path: Path) -> None:
    run = with_prompts(tmp_path, prompts=asked(["问"]), second=asked(["再问"]))
    (run.comparisons / "prompts.json").write_text('{"what": "prompts", "format": 1}')
    (run.comparisons / "eval.json").write_text("{")
    content = read_content(run.folder)
    assert [each.name for each in content.prompts] == ["second"]
    assert content.damaged == ["eval", "prompts"]
    words = page_of(run).words
    assert "The comparison prompts is damaged and not shown. loraloom compare writes it again." in words


def test_figures_over_some_of_the_prompts_say_so(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", compare=("prompts",))
    document = json.loads((run.comparisons / "prompts.json").read_text())
    write(run.comparisons / "prompts.json", document | {"num_judged": 2})
    assert (
        "These figures are based on 2 of 3 rows given as prompts, namely those with a known answer."
        in page_of(run).words
    )
