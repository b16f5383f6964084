"""Texts in sources become messages that read the same, and the list of all messages is up to date."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

import pytest

from loraloom.text.message import Message
from loraloom.text.template import pieces
from tests.text.message_files import entries
from tools.messages.conversion import all_sites
from tools.messages.files import convert
from tools.messages.flow import PACKAGE, Flow
from tools.messages.remaining import all_remaining, mark_remaining, remaining_in_page, unused_allowances
from tools.messages.templates import Template, templates

pytestmark = pytest.mark.usefixtures("without_collections")
SOURCE = '''
"""A module."""
from __future__ import annotations
from loraloom.errors import DataError, Problem
from loraloom.text.units import counted

HINT = "Remove it, or write `{a: 1}`."
KINDS = {"int": "must be a whole number", "str": "must be text"}
NAMES = "lora, training"

def shown(names):
    return ", ".join(f"`{name}`" for name in names)

def described(count):
    return f"about {count:.1f} of them"

def listed(rows):
    found = []
    for number, row in enumerate(rows):
        found.append(f"row {number}: {len(row)} cells")
    if not rows:
        found.append("none")
    return found

def problems(path, rows, kind, fix=""):
    what = f"{path} has {len(rows):,} row{'s' * (len(rows) > 1)}" + (", some of them bad" if rows else "")
    where = f"{path}:{kind}"
    yield Problem(what, where, found=described(len(rows)), allowed=NAMES, fix=HINT)
    yield Problem(f"`{path}` {KINDS[kind]}", where, found=f"{kind!r:>8} and {rows!r}")
    better = f"{fix.rstrip('.')}, or leave it out."
    yield Problem("; ".join(listed(rows)), where, allowed=shown(rows), fix=better)
    yield Problem(
        f"the { 'first' if rows else 'last' } of {counted(len(rows), 'entry', 'entries')} "
        f"is {'longer' if len(path) > 3 else 'shorter'} than anything that was ever written here",
        where,
        fix=fix or (f"Use {path}." if path else "Use another."),
    )
    yield Problem(
        "this one has "  # a reason
        "a comment",
        where,
    )

def texts(path, rows, kind, fix=""):
    return [str(problem) for problem in problems(path, rows, kind, fix)]
'''
ARGUMENTS = [
    ("a.csv", ["x", "yz"], "int", "Do that."),
    ("{b}", ["x"], "str", ""),
    ("c", [], "int", "No"),
]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "sample"
    folder.mkdir()
    (folder / "__init__.py").write_text("", encoding="utf-8")
    (folder / "module.py").write_text(SOURCE, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    return folder


def texts_of(package: Path) -> list[list[str]]:
    for name in ("sample", "sample.module"):
        sys.modules.pop(name, None)
    importlib.invalidate_caches()
    module = importlib.import_module("sample.module")
    return [module.texts(*arguments) for arguments in ARGUMENTS]


def convert_all(package: Path) -> list[str]:
    flow = Flow(package)
    return [site.why for module in flow.modules for site in convert(flow, module)]


def test_texts_are_the_same_and_a_second_run_changes_nothing(package: Path) -> None:
    before = texts_of(package)
    assert convert_all(package) == ["a comment is inside of it"]
    after = (package / "module.py").read_text(encoding="utf-8")
    assert texts_of(package) == before
    assert convert_all(package) == ["a comment is inside of it"]
    assert (package / "module.py").read_text(encoding="utf-8") == after


def test_what_is_said_is_a_template_and_what_is_named_a_value(package: Path) -> None:
    convert_all(package)
    source = (package / "module.py").read_text(encoding="utf-8").replace("'", '"')
    assert 'Message("Remove it, or write `{{a: 1}}`.")' in source
    assert 'Message("must be a whole number")' in source
    assert 'NAMES = "lora, training"' in source
    assert 'return ", ".join(f"`{name}`" for name in names)' in source
    assert 'Message("about {count:.1f} of them", count=count)' in source
    assert 'found.append(Message("row {number}: {num_row} cells", number=number, num_row=len(row)))' in source
    assert 'joined("; ", listed(rows))' in source
    assert 'Message("{fix:clause}, or leave it out.", fix=fix)' in source
    assert '"{path} has {num_rows:,} rows"' in source
    assert '"{path} has {num_rows:,} row"' in source
    assert source.count("from loraloom.text.message import Message, joined") == 1


def test_every_template_of_the_package_is_one() -> None:
    for template in templates():
        for text in filter(None, (template.text, template.plural)):
            names = {name for _, name, _ in pieces(text)} - {""}
            Message(text, **dict.fromkeys(names, 1))


def test_the_list_of_all_messages_is_up_to_date() -> None:
    """If it is not, run `make messages`."""
    listed = {entry.template for entry in entries(PACKAGE / "locale" / "loraloom.pot")}
    assert listed == set(templates())


def test_no_text_that_the_converter_finds_is_left() -> None:
    """If one is left, run `python -m tools.convert_messages loraloom`."""
    left = [site.where for site in all_sites(mark_remaining(Flow()))]
    assert not left


def test_no_sentence_of_the_package_is_left() -> None:
    """If one has to stay as it is, `tools/messages/allowed.py` says why."""
    assert all_remaining() == []
    assert unused_allowances() == []


MISSED = '''
"""A module, whose docstring has many words and stays as it is."""
import re
from loraloom.errors import DataError

TABLE = {"few": ("a b", "this row of a table has too few cells"), "names": ("one two three four".split(),)}
PATTERN = re.compile("is one of the words that are found")

class Flaw(Exception):
    pass

def count(notes, rows, option):
    assert rows, "there must be some rows to count here"
    notes += ["some of these rows are not used here"]
    option(help="the file that all rows are written to")
    if not rows:
        raise TypeError("count needs at least one row to count")
    raise Flaw(f"`{rows}` is shorter than any row should be", "Add what is missing to it.")
'''


def test_sentences_that_are_not_followed_are_found_and_converted(package: Path) -> None:
    (package / "module.py").write_text(MISSED, encoding="utf-8")
    missed = [place.partition(": ")[2] for place in all_remaining(package)]
    assert sorted(missed) == [
        "Add what is missing to it.",
        "`{}` is shorter than any row should be",
        "some of these rows are not used here",
        "the file that all rows are written to",
        "this row of a table has too few cells",
    ]
    flow = mark_remaining(Flow(package))
    for module in flow.modules:
        convert(flow, module)
    assert all_remaining(package) == []
    source = (package / "module.py").read_text(encoding="utf-8")
    assert 'Message("this row of a table has too few cells")' in source
    assert 'Flaw(Message("`{rows}` is shorter than any row should be", rows=rows)' in source


PAGE = """
<p title="Read this">{{ _("{count} of them", count=3) }} <code>loraloom init</code></p>
<p>Said in English</p>{{ ngettext("{count} row", "{count} rows", count=2) }}
"""


def test_texts_of_pages_are_listed_or_found(tmp_path: Path) -> None:
    (tmp_path / "page.html.j2").write_text(PAGE, encoding="utf-8")
    assert set(templates(tmp_path)) == {
        Template("{count} of them"),
        Template("{count} row", "{count} rows"),
    }
    assert set(remaining_in_page(PAGE)) == {"Read this", "Said in English"}


def test_no_template_has_a_value_within_a_word() -> None:
    """The plural of a noun, or a part of a verb, cannot be translated apart from its word."""
    glued = re.compile(r"\}[^\W\d_]")
    assert [each.text for each in templates() if glued.search(re.sub("`[^`]*`", "", each.text))] == []
