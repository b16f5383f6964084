"""What stands in the texts: personal data, damage, scripts, answers that teach nothing."""

from __future__ import annotations

import time

import pytest

from loraloom.checks.data.damaged_text import check_characters, check_html
from loraloom.checks.data.personal_data import check_personal_data, personal_kinds
from loraloom.checks.data.responses import check_alike, check_copied, check_cut_off
from loraloom.checks.data.scripts import check_scripts
from loraloom.text.catalogue import rendered
from tests.checks.data_rows import good, only, seen
from tests.pseudo_locale import PseudoLocale, wide

# Made up here: the check digits are right, the people do not exist.
PERSONAL = {
    "ID numbers": ["身份证11010519491231002X", "我的号码是 440308199901101512。", "ID:11010519491231002x"],
    "phone numbers": [
        "打13912345678找我",
        "电话：+86 139-1234-5678",
        "座机010-62345678",
        "call +44 20 7946 0958",
        "１３９１２３４５６７８",
    ],
    "email addresses": ["写信到li.lei@163.com吧", "zhang_wei-99@mail.tsinghua.edu.cn"],
    "WeChat or QQ numbers": [
        "加微信：lilei_2020",
        "我的vx是abc12345",
        "QQ 123456789",
        "扣扣号：87654321",
        "WeChat: han-meimei88",
    ],
    "bank card numbers": ["卡号6222 0212 3456 7890 128", "4111111111111111", "汇到6222021234567890128"],
    "IP addresses": ["服务器是 8.8.4.4 吗", "from 203.119.25.1"],
}
NOT_PERSONAL = [
    "身份证110105194912310021",  # the check digit is wrong
    "订单号 202611230000000001",
    "圆周率是3.14159265358979323846",
    "1234567890123456",  # no card begins so
    "4111111111111112",  # Luhn fails
    "0000000000000000",
    "2026年11月23日13点45分，共12345678元",
    "写信到 someone@example.com",
    "@用户 你好，me@home",
    "版本1.2.3.4，v10.20.30.40",
    "在家里是192.168.1.1，本机是127.0.0.1",
    "第13912345678901号",
    "微信支付很方便，QQ音乐也好听",
    "扫一扫微信二维码，QQ群里见",
    "wx.request 用法",
    "人口 1400000000，面积9600000",
    "12345",
    "",
]


@pytest.mark.parametrize(
    ("kind", "text"), [(kind, text) for kind, texts in PERSONAL.items() for text in texts]
)
def test_78_personal_data_is_told_by_kind_and_line_and_never_shown(kind: str, text: str) -> None:
    assert list(personal_kinds(text)) == [kind]
    rows = good(20)
    for row in ((f"{rows[0][0]}{text}", "好的。"), (rows[0][0], f"好的，{text}")):
        found = only(check_personal_data(seen([*rows[:10], row, *rows[10:]])))
        assert (found.level, found.where) == ("warning", "data.jsonl:11")
        assert found.message == f"{kind} in 1 of 21 rows"
        assert not any(word in str(found) for word in (text, "1391", "0105", "lilei", "6222", "8.8"))


@pytest.mark.parametrize("text", NOT_PERSONAL)
def test_numbers_that_are_nobodys_are_passed_over(text: str) -> None:
    assert list(personal_kinds(text)) == []


def test_several_kinds_are_several_findings() -> None:
    found = check_personal_data(seen([*good(5), ("13912345678 li.lei@163.com", "x"), ("13912345678", "y")]))
    assert [(f.where, f.message) for f in found] == [
        ("data.jsonl:6", "email addresses in 1 of 7 rows"),
        ("data.jsonl:6, 7", "phone numbers in 2 of 7 rows"),
    ]


DAMAGED = [
    "好\ufffd\ufffd的",
    "今天天气很好".encode().decode("gbk", errors="replace"),
    "今天天气很好，我们出去走走吧。".encode().decode("gb18030", errors="ignore"),
    "今天天气".encode().decode("latin-1"),
    "l’été à Paris".encode().decode("cp1252", errors="ignore"),
    "“quoted”".encode().decode("cp1252", errors="replace"),
    "锟斤拷锟斤拷",
]
UNSEEN = ["a\u200bb", "\u202ereversed\u202c", "x\ufeffy", "C1 \x9b control", "a\u2066b"]
CLEAN = [
    "l’été à Paris, garçon, Ærø, naïve, Köln, São Paulo",
    "👩‍👩‍👧 ❤️ 🇨🇳",
    "می‌خواهم",
    "漢字とかな、カタカナ",
    "русский текст",
    "繁體中文與简体中文",
    "第一行\n第二行\t制表",
    "",
]


@pytest.mark.parametrize("text", DAMAGED)
def test_damaged_characters(text: str) -> None:
    found = only(check_characters(seen([*good(10), ("问？", text), *good(10, first=10)])))
    assert (found.level, found.where) == ("warning", "data.jsonl:11")
    assert "contain damaged characters" in found.message


@pytest.mark.parametrize("text", UNSEEN)
def test_unseen_characters(text: str) -> None:
    found = only(check_characters(seen([*good(10), (text, "答。"), *good(10, first=10)])))
    assert (found.level, found.where) == ("warning", "data.jsonl:11")
    assert "invisible characters" in found.message


@pytest.mark.parametrize("text", CLEAN)
def test_33_what_is_written_so_on_purpose_is_in_order(text: str) -> None:
    assert only(check_characters(seen([*good(10), (text or "x", text or "y")]))).level == "ok"


@pytest.mark.parametrize(
    "text", ["一<br>二", "a&nbsp;b", "<p>段</p>", '见<a href="http://x">此</a>', "&#39;"]
)
def test_remnants_of_html(text: str) -> None:
    found = only(check_html(seen([*good(10), ("问？", text), *good(10, first=10)])))
    assert (found.level, found.check, found.where) == ("warning", "html", "data.jsonl:11")


@pytest.mark.parametrize(
    "text", ["3 < 4 & 5 > 2", "```html\n<p>a</p>\n```", "HTML里<p>是段落", "a <b, c> d", "R&D"]
)
def test_what_is_about_html_or_no_html_is_in_order(text: str) -> None:
    assert only(check_html(seen([*good(10), ("问？", text)]))).level == "ok"


def test_few_rows_in_another_script_are_noted() -> None:
    english = ("How do I deal with stress at work?", "Take a short walk, and then try again.")
    found = check_scripts(seen([*good(30), english, *good(30, first=30)]))
    assert [(f.level, f.where) for f in found] == [("note", "data.jsonl:31")] * 2
    assert "1 of 61 (1.6 %) sources are mainly in Latin script, but most are in Han" in found[0].message


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("日本語の文章はこう書きます", "kana"),
        ("한국어로 쓴 문장입니다", "Hangul"),
        ("это русское предложение", "Cyrillic"),
        ("هذه جملة باللغة العربية", "Arabic"),
        ("हिन्दी में एक वाक्य लिखा", "Devanagari"),
    ],
)
def test_32_every_script_is_known_by_its_name(text: str, script: str) -> None:
    found = only(check_scripts(seen([*good(20), ("问题在这里？", text)])))
    assert f"mainly in {script} script" in found.message


def test_two_languages_half_and_half_are_meant() -> None:
    english = [(f"Question number {n} about stress?", f"Answer number {n} says so.") for n in range(20)]
    found = only(check_scripts(seen([*good(20), *english])))
    assert found.level == "ok"
    assert "50 % Han, 50 % Latin" in found.message


def test_34_traditional_characters_among_simplified_ones_are_noted() -> None:
    simplified = [
        (f"学习压力让我难过，请问第{n}次该怎么办？", f"这并不罕见，试着谈谈第{n}次。") for n in range(30)
    ]
    row = ("學習壓力讓我難過，請問該怎麼辦？", "试着谈谈，说说这些。")
    found = only(check_scripts(seen([*simplified[:15], row, *simplified[15:]])))
    assert (found.level, found.where) == ("note", "data.jsonl:16")
    assert "sources are in traditional characters, but most are in simplified" in found.message
    shown = rendered(found.message, PseudoLocale())
    assert all(wide(word) in shown for word in ("source", "traditional", "simplified"))


def test_answers_that_are_all_alike() -> None:
    rows = [(source, "好的，没问题。") for source, _ in good(30)]
    found = only(check_alike(seen(rows)))
    assert (found.level, found.check) == ("error", "alike")
    assert "all 30 training rows have the same response" in found.message
    found = only(check_alike(seen([*rows, *good(20, first=30)])))
    assert found.level == "warning"
    assert "30 of 50 (60 %) training rows have the same response" in found.message
    assert only(check_alike(seen([*rows[:4], *good(20, first=30)]))).level == "ok"


def test_beginnings_and_sources_that_are_alike() -> None:
    begun = [(source, f"作为一个人工智能助手，我认为{response}") for source, response in good(30)]
    found = only(check_alike(seen([*begun, *good(10, first=30)])))
    assert found.level == "warning"
    assert "30 of 40 (75 %) responses begin with the same 12 characters" in found.message
    same = [("请回答。", response) for _, response in good(30)]
    assert "30 of 30 (100 %) training rows have the same source" in only(check_alike(seen(same))).message


def test_responses_copied_from_their_source() -> None:
    rows = good(20)
    found = only(check_copied(seen([*rows, (rows[3][0], f"{rows[3][0].replace('？', '?')} ")])))
    assert (found.level, found.where) == ("warning", "data.jsonl:21")
    assert only(check_copied(seen(rows))).level == "ok"


def test_long_responses_that_are_cut_in_the_middle_are_noted() -> None:
    long = [(source, response * 3) for source, response in good(40)]
    cut = [(source, response[:50].rstrip("。")) for source, response in long[:4]]
    found = only(check_cut_off(seen([*cut, *long[4:]])))
    assert (found.level, found.where) == ("note", "data.jsonl:1, 2, 3, 4")
    assert "4 of 40 (10 %) long responses do not end at the end of a sentence" in found.message
    for whole in (long, [(s, f"{r}😊") for s, r in long], [(s, f"{r}\n——某人写于某日") for s, r in long]):
        assert only(check_cut_off(seen(whole))).level == "ok"
    # A file whose responses never end in a full stop is written so.
    assert only(check_cut_off(seen([(s, r.rstrip("。")) for s, r in long]))).level == "ok"


@pytest.mark.parametrize(
    "piece",
    [
        "wechat",
        "13912345678 ",
        "1",
        "1-",
        "a@",
        "a.",
        "+1 (",
        "<a ",
        "&#1",
        "微信 ",
        "。 ",
        "é",
        "\u200d",
        "1.1.",
        "62 ",
    ],
)
def test_a_text_made_to_be_slow_is_looked_at_at_once(piece: str) -> None:
    """A quadratic pattern would need minutes for these."""
    text = piece * (200_000 // len(piece))
    data = seen([*good(20), (text, text)])
    start = time.process_time()
    for check in (
        check_personal_data,
        check_characters,
        check_html,
        check_cut_off,
        check_alike,
        check_scripts,
    ):
        check(data)
    assert time.process_time() - start < 10
