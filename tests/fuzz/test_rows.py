"""Whatever a data file holds: rows, or one error of ours with the right line and no text of any row."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from loraloom.data.examples import read_examples
from loraloom.data.prompts.prompts import read_prompts
from loraloom.data.rows import FORMATS
from loraloom.errors import DataError
from loraloom.recipe import DataSettings
from tests.fuzz.budget import EXAMPLES, budget, no_hang, refusal

# Stands in every field, and so must stand in no message.
CANARY = "Zq7Canary"
COLUMNS = ("instruction", "response")
FILLER = st.text(st.characters(exclude_categories=["Cs", "Cc"], include_characters="\n\t\r\x85"), max_size=12)
TEXTS = FILLER.map(lambda text: f"{CANARY}{text}x")
PAIRS = st.tuples(TEXTS, TEXTS)
LAYOUTS: dict[str, Callable[[str, str], dict[str, Any]]] = {
    "instruction/response": lambda q, a: {"instruction": q, "response": a},
    "instruction/input/output": lambda q, a: {"instruction": q, "input": "", "output": a},
    "prompt/completion": lambda q, a: {"prompt": q, "completion": a},
    "question/answer": lambda q, a: {"question": q, "answer": a, "context": q},
    "text/summary": lambda q, a: {"text": q, "summary": a},
    "translation": lambda q, a: {"translation": {"en": q, "de": a}},
    "messages": lambda q, a: {
        "messages": [{"role": "user", "content": q}, {"role": "assistant", "content": a}]
    },
    "conversations": lambda q, a: {
        "conversations": [{"from": "human", "value": q}, {"from": "gpt", "value": a}]
    },
}


def read(path: Path) -> list[Any]:
    """Examples of a file, by every reader that takes it."""
    settings = DataSettings(train=path.name)
    examples = read_examples(path, settings, shown_as=path.name).examples
    read_prompts(path, settings, shown_as=path.name)
    return examples


def examples_or_refusal(path: Path, content: bytes) -> str | None:
    """The message, where it is refused; it names the file and has no text of a row."""
    path.write_bytes(content)
    message = refusal(DataError, lambda: read(path))
    if message is not None:
        assert path.name in message
        assert CANARY not in message
        assert message.isprintable() or all(line.isprintable() for line in message.splitlines())
    return message


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


SUFFIXES = st.sampled_from([*FORMATS, ".txt", ".gz", ""])


@budget(150)
@given(suffix=SUFFIXES, content=st.binary(max_size=300))
def test_any_bytes(folder: Path, suffix: str, content: bytes) -> None:
    examples_or_refusal(folder / f"any{suffix}", content)


@budget(150)
@given(suffix=SUFFIXES, content=st.text("[]{}\",:\\ue0\n\r\t ;|'=+-.truefalsn<>#\ufeff\u2028", max_size=120))
def test_any_punctuation(folder: Path, suffix: str, content: str) -> None:
    examples_or_refusal(folder / f"any{suffix}", content.encode())


def as_lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def as_list(rows: list[dict[str, Any]], indent: int | None = 1) -> str:
    return json.dumps(rows, ensure_ascii=False, indent=indent)


def as_table(rows: list[dict[str, Any]], separator: str) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter=separator, lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writerows([list(rows[0]), *(list(row.values()) for row in rows)])
    return buffer.getvalue()


def as_parquet(rows: list[dict[str, Any]]) -> bytes:
    import pyarrow
    import pyarrow.parquet as parquet

    buffer = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist(rows), buffer)
    return buffer.getvalue()


WRITERS: dict[str, Callable[[list[dict[str, Any]]], bytes]] = {
    ".jsonl": lambda rows: as_lines(rows).encode(),
    ".json": lambda rows: as_list(rows).encode(),
    ".ndjson": lambda rows: as_list(rows, None).encode(),
    ".csv": lambda rows: as_table(rows, ",").encode(),
    ".tsv": lambda rows: as_table(rows, "\t").encode(),
    ".parquet": as_parquet,
    ".jsonl.gz": lambda rows: gzip.compress(as_lines(rows).encode()),
}
SPOILS = st.lists(
    st.tuples(
        st.sampled_from(["delete", "set", "double", "cut", "insert"]),
        st.floats(0, 1, exclude_max=True),
        st.integers(0, 255),
        st.integers(1, 40),
    ),
    min_size=1,
    max_size=4,
)


def spoilt(content: bytes, spoils: list[tuple[str, float, int, int]]) -> bytes:
    data = bytearray(content)
    for kind, share, value, length in spoils:
        at = int(share * len(data)) if data else 0
        if kind == "delete":
            del data[at : at + length]
        elif kind == "set" and data:
            data[at] = value
        elif kind == "double":
            data[at:at] = data[at : at + length]
        elif kind == "cut":
            del data[at:]
        else:
            data[at:at] = bytes([value]) * length
    return bytes(data)


@budget(350)
@given(
    suffix=st.sampled_from(sorted(WRITERS)),
    layout=st.sampled_from(sorted(LAYOUTS)),
    pairs=st.lists(PAIRS, min_size=1, max_size=6),
    spoils=SPOILS,
)
@example(suffix=".csv", layout="prompt/completion", pairs=[(CANARY, CANARY)], spoils=[("delete", 0.0, 0, 21)])
@example(
    suffix=".csv", layout="prompt/completion", pairs=[(CANARY, CANARY + "x")], spoils=[("delete", 0.0, 0, 21)]
)
def test_spoilt_files_of_every_format_and_layout(
    folder: Path,
    suffix: str,
    layout: str,
    pairs: list[tuple[str, str]],
    spoils: list[tuple[str, float, int, int]],
) -> None:
    rows = [LAYOUTS[layout](asked, answer) for asked, answer in pairs]
    examples_or_refusal(folder / f"spoilt{suffix}", spoilt(WRITERS[suffix](rows), spoils))


# What is wrong with one row while the file stays readable: (what its answer is, or None for the whole row).
FLAWS: dict[str, Callable[[str], str]] = {
    "empty": lambda row: row.replace('"ANSWER"', '""'),
    "blank": lambda row: row.replace('"ANSWER"', '"  "'),
    "null": lambda row: row.replace('"ANSWER"', "null"),
    "number": lambda row: row.replace('"ANSWER"', "7"),
    "NaN": lambda row: row.replace('"ANSWER"', "NaN"),
    "list": lambda row: row.replace('"ANSWER"', f'["{CANARY}"]'),
    "control": lambda row: row.replace('"ANSWER"', r'"\u0007"'),
    "surrogate": lambda row: row.replace('"ANSWER"', r'"\ud800"'),
    "twice": lambda row: row.replace('"ANSWER"', '"a", "response": "b"'),
    "missing": lambda row: '{"instruction": "' + CANARY + '"}',
    "digits": lambda row: row.replace('"ANSWER"', "9" * 5_000),
    "deep": lambda row: row.replace('"ANSWER"', "[" * 200 + "]" * 200),
    "no object": lambda row: f'"{CANARY}"',
}
BAD_ROW = '{"instruction": "' + CANARY + '", "response": "ANSWER"}'
GAPS = st.lists(st.sampled_from(["", " ", "\t"]), max_size=2)


@budget(200)
@given(
    flaw=st.sampled_from(sorted(FLAWS)),
    before=st.lists(st.tuples(PAIRS, GAPS), min_size=1, max_size=12),
    after=st.lists(PAIRS, min_size=8, max_size=12),
    end=st.sampled_from(["\n", "\r\n"]),
)
def test_the_line_of_a_bad_row_among_lines(
    folder: Path, flaw: str, before: list[Any], after: list[Any], end: str
) -> None:
    """Twenty good rows or so around it; the line is counted in the file's bytes, by nothing of ours."""
    lines: list[str] = []
    for (asked, answer), gaps in before:
        lines += [*gaps, json.dumps({"instruction": asked, "response": answer}, ensure_ascii=False)]
    head = end.join([*lines, ""]).encode()
    tail = end.join(json.dumps(dict(zip(COLUMNS, pair, strict=True))) for pair in after)
    content = head + FLAWS[flaw](BAD_ROW).encode() + f"{end}{tail}{end}".encode()
    message = examples_or_refusal(folder / "lines.jsonl", content)
    assert message is not None
    assert lines_in(message, "lines.jsonl") == {head.count(b"\n") + 1}


@budget(200)
@given(
    flaw=st.sampled_from(sorted(FLAWS)),
    before=st.lists(PAIRS, min_size=1, max_size=12),
    after=st.lists(PAIRS, min_size=8, max_size=12),
    indent=st.sampled_from([None, 0, 2]),
    gap=st.sampled_from(["", "\n", "\r\n", " \n\n "]),
)
def test_the_line_of_a_bad_row_in_a_list(
    folder: Path, flaw: str, before: list[Any], after: list[Any], indent: int | None, gap: str
) -> None:
    texts = [json.dumps(dict(zip(COLUMNS, pair, strict=True)), indent=indent) for pair in [*before, *after]]
    head = f"[{gap}" + "".join(f"{text},{gap}" for text in texts[: len(before)])
    rest = "".join(f",{gap}{text}" for text in texts[len(before) :])
    content = head + FLAWS[flaw](BAD_ROW) + rest + gap + "]"
    message = examples_or_refusal(folder / "list.json", content.encode())
    assert message is not None
    assert lines_in(message, "list.json") == {head.count("\n") + 1}


@budget(150)
@given(
    suffix=st.sampled_from([".csv", ".tsv"]),
    before=st.lists(PAIRS, min_size=1, max_size=12),
    after=st.lists(PAIRS, min_size=8, max_size=12),
    flaw=st.sampled_from(["", " ", "\x07", None]),
)
def test_the_line_of_a_bad_row_in_a_table(
    folder: Path, suffix: str, before: list[Any], after: list[Any], flaw: str | None
) -> None:
    """Texts hold line breaks, so that rows and lines go apart."""
    separator = {".csv": ",", ".tsv": "\t"}[suffix]
    rows = [dict(zip(COLUMNS, (a.replace("\r", " "), b.replace("\r", " ")), strict=True)) for a, b in before]
    head = as_table(rows, separator)
    bad = f'"{CANARY}"\n' if flaw is None else f'"{CANARY}"{separator}"{flaw}"\n'
    good = [dict(zip(COLUMNS, (a.replace("\r", " "), b.replace("\r", " ")), strict=True)) for a, b in after]
    content = head + bad + as_table(good, separator).partition("\n")[2]
    message = examples_or_refusal(folder / f"table{suffix}", content.encode())
    assert message is not None
    assert lines_in(message, f"table{suffix}") == {head.count("\n") + 1}


def lines_in(message: str, name: str) -> set[int]:
    """The lines that a message names."""
    return {int(line) for line in re.findall(rf"{re.escape(name)}:(\d+)", message)}


def test_no_size_makes_it_hang(folder: Path) -> None:
    """Long lines, deep nests, quotes that nothing closes: a megabyte of each."""
    million = 1_000_000
    for name, content in {
        "one.jsonl": '{"instruction": "' + "x" * million,
        "nest.json": "[" * million,
        "keys.json": '{"a":' * (million // 5),
        "quote.csv": 'instruction,response\n"' + "x,\n" * (million // 3),
        "commas.csv": "," * million,
        "columns.csv": ",".join(f"c{n}" for n in range(50_000)) + "\n" + "," * 49_999,
        "blank.jsonl": "\n" * million,
        "braces.jsonl": "{\n" * (million // 10),
        "twice.jsonl": json.dumps({f"k{n}": 1 for n in range(70_000)})[:-1] + ', "k0": 1}\n{}',
        "backslash.json": '["' + "\\" * million,
        "digits.jsonl": '{"instruction": ' + "9" * million + "}",
    }.items():
        with no_hang():
            assert examples_or_refusal(folder / name, content.encode()) is not None, name


def test_the_long_form_is_asked_for_by_name() -> None:
    """A suite that fuzzes without end would be nobody's: it does so by `make fuzz` only."""
    assert budget(7).max_examples == (EXAMPLES or 7)
