"""What the tests of data files share: ways to write and read them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from data_files import good_rows, write_lines

from loraloom.data.examples import Examples, read_examples
from loraloom.data.rows import Row, read_rows
from loraloom.recipe import DataSettings


@pytest.fixture
def around() -> Callable[..., bytes]:
    """Lines of JSON with given ones at line 11, ten good rows before and ten after."""

    def build(*bad_lines: str | bytes) -> bytes:
        good = [json.dumps(row, ensure_ascii=False).encode() for row in good_rows()]
        bad = [line.encode() if isinstance(line, str) else line for line in bad_lines]
        return b"\n".join([*good[:10], *bad, *good[10:]]) + b"\n"

    return build


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., list[Row]]:
    """Write bytes to a file of a name and read it back as rows."""

    def write_and_read(name: str, content: bytes | str, **settings: Any) -> list[Row]:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return list(read_rows(path, DataSettings(train=name, **settings), shown_as=name))

    return write_and_read


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Examples]:
    """Write rows as JSON lines and read them back as examples."""

    def write_and_load(rows: list[Any], **settings: Any) -> Examples:
        write_lines(tmp_path / "data.jsonl", rows)
        return read_examples(
            tmp_path / "data.jsonl", DataSettings(train="data.jsonl", **settings), shown_as="data.jsonl"
        )

    return write_and_load
