"""What the page must be: complete in itself, safe whatever a data set holds, plain about what it knows."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import time
from pathlib import Path

import pytest

from loraloom.report.content import read_content
from loraloom.report.page import MOST_ROWS, render_page
from tests.report.parsed import Page
from tests.report.runs import EVAL_EVERY, FOLDER, HOSTILE, NAMES, STEPS, hostile_rows, make_run, usual_rows

TAGS = """
    html head meta title style body header nav main section footer h1 h2 h3 h4 p a span strong div ul li
    dl dt dd table caption thead tbody tr th td details summary article form label input select option
    output mark code pre br figure figcaption svg line text polyline circle rect g script button col colgroup
"""
ATTRIBUTES = """
    lang charset http-equiv content name class id href title scope hidden type placeholder autocomplete
    value min max inputmode role data-label data-changed dir x y x1 x2 y1 y2 dy cx cy r width height points
    viewbox preserveaspectratio open aria-label aria-labelledby aria-hidden aria-live tabindex checked
    data-column data-copies data-copied data-selected data-text
"""


def page_of(folder: Path, compare_name: str | None = None) -> Page:
    return Page(render_page(read_content(folder, compare_name)))


@pytest.fixture(params=("usual", "hostile", "bare", "unfinished", "new"))
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A run of every kind in turn."""
    kind = request.param
    run = make_run(
        tmp_path / "run",
        hostile_rows() if kind == "hostile" else None,
        compare=("test", "eval") if kind in ("usual", "hostile") else (),
        is_finished=kind not in ("unfinished", "new"),
        has_begun=kind != "new",
    )
    return run.folder


def test_every_tag_and_attribute_is_one_of_ours(folder: Path) -> None:
    page = page_of(folder)
    assert {tag for tag, _ in page.tags} <= set(TAGS.split())
    assert {name for _, given in page.tags for name in given} <= set(ATTRIBUTES.split())
    assert not page.open


def test_the_page_loads_nothing(folder: Path) -> None:
    page = page_of(folder)
    links = [given["href"] for _, given in page.tags if "href" in given]
    assert all(link and link.startswith("#") for link in links)
    for style in page.blocks["style"]:
        assert "url(" not in style
        assert "@import" not in style
    ids = [given["id"] for _, given in page.tags if given.get("id")]
    assert len(ids) == len(set(ids))
    assert {link.removeprefix("#") for link in links if link} <= set(filter(None, ids))


def test_the_policy_allows_this_style_and_this_script_and_nothing_else(folder: Path) -> None:
    page = page_of(folder)
    (policy,) = [
        given["content"] or ""
        for tag, given in page.tags
        if tag == "meta" and given.get("http-equiv") == "Content-Security-Policy"
    ]
    allowed = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert allowed["default-src"] == "'none'"
    assert "unsafe" not in policy
    assert "http" not in policy
    for kind in ("style", "script"):
        assert sum(tag == kind for tag, _ in page.tags) == 1
        digest = hashlib.sha256("".join(page.blocks[kind]).encode()).digest()
        assert allowed[f"{kind}-src"] == f"'sha256-{base64.b64encode(digest).decode()}'"
    assert set(allowed) == {"default-src", "style-src", "script-src", "base-uri", "form-action"}


def test_hostile_texts_are_read_as_they_stand_and_nothing_unseen_is_left(tmp_path: Path) -> None:
    html = render_page(read_content(make_run(tmp_path / "run", hostile_rows()).folder))
    assert not re.search(
        "[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2028\u2029\u200b\ufeff\ud800-\udfff]", html
    )
    html.encode()
    text = "".join(Page(html).text)
    for hostile in HOSTILE:
        plain = re.search(r"[ -~\u4e00-\u9fff]{2,40}", hostile)
        assert plain is None or plain.group() in text
    assert r"a\u202eb\u202c" in text
    assert r"\x00\x07\x1b[31m" in text
    assert r"\ud800 alone" in text


def test_hostile_names_and_sentences_of_a_foreign_run_do_nothing(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run<img src=x onerror=alert(1)>")
    for path in (run.comparisons / "test.json", run.checks_file, run.provenance_file, run.events_file):
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace("wide", r"<b onclick=alert(1)>\"'"), encoding="utf-8")
    page = page_of(run.folder)
    assert {tag for tag, _ in page.tags} <= set(TAGS.split())
    assert {name for _, given in page.tags for name in given} <= set(ATTRIBUTES.split())


def test_a_very_long_text_is_cut_and_the_page_says_so(tmp_path: Path) -> None:
    html = render_page(read_content(make_run(tmp_path / "run", hostile_rows()).folder))
    assert "more characters" in html
    assert "W" * 100 not in html


def test_that_an_adapter_did_nothing_is_said_first(tmp_path: Path) -> None:
    page = page_of(make_run(tmp_path / "run").folder)
    assert page.words.index("slow did nothing") < page.words.index("wide answers better")
    assert page.words.index("did nothing") < page.words.index("Each experiment's difference from the base")


def test_which_rows_the_figures_are_on_is_said(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", compare=("prompts", "eval", "test")).folder
    assert "on 3 test rows, which were not used to select checkpoints" in page_of(folder).words
    assert "on 3 eval rows, which also selected the checkpoints" in page_of(folder, "eval").words
    assert "on 3 rows given as prompts" in page_of(folder, "prompts").words


def test_one_row_is_not_taken_for_evidence(tmp_path: Path) -> None:
    page = page_of(make_run(tmp_path / "run", usual_rows(NAMES)[:1]).folder)
    assert "based on a single row" in page.words


def test_a_figure_that_is_neither_good_nor_bad_gets_no_verdict(tmp_path: Path) -> None:
    page = page_of(make_run(tmp_path / "run").folder)
    assert "[+0.240, +0.360]" in page.words  # the length, whose interval leaves out zero
    assert "no significant difference" not in page.words


def test_the_seeds_of_an_experiment_are_weighed_together(tmp_path: Path) -> None:
    page = page_of(make_run(tmp_path / "run", names=("wide@1", "wide@2", "wide@3", "slow@1")).folder)
    assert len(page.classes("verdict")) == 2
    assert "3 seeds" in page.words
    assert "32.4 ± 1.0" in page.words  # chrF of 31.4, 32.4 and 33.4
    assert "variation between rows and between seeds" in page.words
    assert len(page.classes("seeds")) >= 3  # one fold a row: the first seed is in sight
    assert len({given["class"] for given in page.classes("line")}) == 4  # two colours, faint and not


def test_experiments_are_set_against_each_other_and_one_is_recommended(tmp_path: Path) -> None:
    page = page_of(make_run(tmp_path / "run").folder)
    assert "Take wide: chrF 31.4 on 3 test rows." in page.words
    assert "wide slow +19.4 [+15.5, +23.3] 0.0002 better" in page.words
    assert "Each experiment has one seed" in page.words


def test_without_references_nothing_is_judged(tmp_path: Path) -> None:
    rows = [row | {"reference": None} for row in usual_rows(NAMES)]
    page = page_of(make_run(tmp_path / "run", rows, compare=("prompts",)).folder)
    assert "not judged" in page.words
    assert "nothing here shows which answers are better" in page.words
    assert not page.classes("interval")


def test_what_an_adapter_forgot_is_shown(tmp_path: Path) -> None:
    page = page_of(make_run(tmp_path / "run").folder)
    assert "the base has a loss of 3.000" in page.words
    assert "retained" in page.words
    assert "+0.250" in page.words


def test_a_failed_experiment_comes_before_every_verdict(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    result = json.loads(run.result_file.read_text(encoding="utf-8"))
    result["experiments"]["wide"] |= {"status": "failed", "reason": f"nan at step 7 of {FOLDER}/data.json"}
    run.result_file.write_text(json.dumps(result), encoding="utf-8")
    page = page_of(run.folder)
    assert page.words.index("wide nan at step 7") < page.words.index("slow did nothing")
    assert FOLDER not in page.words


def test_without_a_comparison_the_page_says_how_to_get_one_and_gives_all_else(tmp_path: Path) -> None:
    page = page_of(make_run(tmp_path / "run", compare=()).folder)
    assert "No answers have been compared yet" in page.words
    assert "loraloom compare run" in page.words
    for title in ("Curves", "Training", "Checks", "Origin", "Recipe"):
        assert title in page.words
    assert page.classes("plot")


def test_an_unfinished_run_is_called_so(tmp_path: Path) -> None:
    page = page_of(make_run(tmp_path / "run", compare=(), is_finished=False).folder)
    assert "Training has not ended" in page.words


def test_curves_have_a_point_for_every_event(tmp_path: Path) -> None:
    page = page_of(make_run(tmp_path / "run").folder)
    lines = [given["points"] or "" for tag, given in page.tags if tag == "polyline"]
    num_points = sorted(len(points.split()) for points in lines)
    num_evals = STEPS // EVAL_EVERY
    assert num_points == [num_evals] * 2 + [STEPS] * 4  # loss and learning rate of both
    assert len(page.classes("dot")) == 2 * num_evals
    assert len(page.classes("ring")) == 2
    assert "log scale" in page.words  # the rates are ten times apart


def test_no_folder_of_the_machine_is_on_the_page(folder: Path) -> None:
    html = render_page(read_content(folder))
    for private in (FOLDER, "someone", "secret project", "/opt/other", str(folder.parent)):
        assert private not in html
    assert "/ask/now: " in html  # a prefix that looks like a path is the recipe's own


def test_the_same_run_gives_the_same_page(tmp_path: Path) -> None:
    content = read_content(make_run(tmp_path / "run").folder)
    assert render_page(content) == render_page(content)


def test_chinese_texts_are_marked_as_such(tmp_path: Path) -> None:
    page = page_of(make_run(tmp_path / "run").folder)
    assert page.tags[0] == ("html", {"lang": "en"})
    assert {given["lang"] for given in page.classes("data")} == {"zh"}


def test_a_thousand_rows_take_seconds_and_a_few_megabytes(tmp_path: Path) -> None:
    sentence = "首先请接纳自己的情绪，再试着把事情慢慢想清楚，和朋友说说心里的话。"
    rows = [
        {
            "source": f"{sentence}{number}",
            "reference": sentence * 5,
            "answers": {
                "base": sentence * 5,
                "wide": sentence * 4 + f"第{number}次",
                "slow": sentence[:9] * 20,
            },
        }
        for number in range(1000)
    ]
    run = make_run(tmp_path / "run", rows)
    started = time.process_time()
    html = render_page(read_content(run.folder))
    assert time.process_time() - started < 10
    texts = sum(
        len("".join([row["source"], row["reference"], *row["answers"].values()]).encode()) for row in rows
    )  # type: ignore[attr-defined,list-item]
    assert len(html.encode()) < 2 * texts + 1_000_000
    assert len(Page(html).classes("row")) == 1000


def test_rows_beyond_the_page_are_counted(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", usual_rows(NAMES) * (MOST_ROWS // 3 + 1))
    page = page_of(run.folder)
    assert len(page.classes("row")) == MOST_ROWS
    assert f"The page ends at row {MOST_ROWS:,}" in page.words


def test_many_experiments_fit(tmp_path: Path) -> None:
    names = [f"trial-{number}" for number in range(20)]
    page = page_of(make_run(tmp_path / "run", names=names).folder)
    assert len(page.classes("verdict")) == 20
    assert sum("data-column" in given for tag, given in page.tags if tag == "td") == 3 * 21


def test_the_first_screen_says_which_is_best_by_how_much_and_at_what_cost(tmp_path: Path) -> None:
    words = page_of(make_run(tmp_path / "run").folder).words
    ranking = words[
        words.index("By chrF. These figures are based on 3 test rows") : words.index(
            "Result of each experiment"
        )
    ]
    for part in ("1 wide 31.4 [30.4, 32.4] +19.4 [+15.5, +23.3] better", "tokens", "weights", "% of all"):
        assert part in ranking
    assert words.index("Take wide") < words.index("By chrF")


def test_the_same_prompts_go_down_and_the_experiments_across(tmp_path: Path) -> None:
    page = page_of(make_run(tmp_path / "run", names=("wide@1", "wide@2", "slow@1", "slow@2")).folder)
    columns = [given["data-column"] for tag, given in page.tags if tag == "td" and "data-column" in given]
    assert columns == ["0", "1", "2"] * 3
    assert [given["value"] for given in page.inputs("checkbox")] == ["0", "1", "2"]
    assert page.words.count("1 more seed ") == 6 + 2  # in the grid, and where it says how far each moved


def test_what_each_setting_did_is_on_the_page(tmp_path: Path) -> None:
    changes = {"wide": {"lora": {"r": 64}}, "slow": {"lora": {"r": 4}}}
    page = page_of(make_run(tmp_path / "run", changes=changes).folder)
    assert (
        "One pair of experiments differs only in this setting: the difference is significant." in page.words
    )
    assert "4 → 64" in page.words
    assert "Effects of the settings" not in page_of(make_run(tmp_path / "same").folder).words


def test_what_was_allowed_is_said_with_the_verdict(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    known = json.loads(run.provenance_file.read_text(encoding="utf-8"))
    run.provenance_file.write_text(json.dumps(known | {"allowed": ["truncation"]}), encoding="utf-8")
    words = page_of(run.folder).words
    assert "--allow truncation" in words
    assert words.index("data.max_source_length: 37 rows") < words.index("Properties of the answers")
