"""Parquet, Arrow and the hub without the packages of the extra `parquet`; other files need none."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from loraloom.data.rows import read_rows
from loraloom.errors import DataError
from loraloom.recipe import DataSettings


@pytest.mark.parametrize("name", ["rows.parquet", "rows.arrow", "hub:owner/name"])
def test_a_missing_package_is_named_with_its_install_line(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in ("pyarrow", "pyarrow.parquet", "datasets"):
        monkeypatch.setitem(sys.modules, package, None)  # `import` then raises ImportError
    if not name.startswith("hub:"):
        (tmp_path / name).write_bytes(b"PAR1")
    install = re.escape("is not installed. Install it with `pip install 'loraloom[parquet]'`")
    with pytest.raises(DataError, match=install) as caught:
        list(read_rows(tmp_path / name, DataSettings(train=name), shown_as=name))
    assert caught.value.problems[0].where == name


def test_other_files_need_none_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("pyarrow", "datasets", "pandas"):
        monkeypatch.setitem(sys.modules, package, None)
    (tmp_path / "rows.jsonl").write_text('{"a": "b"}\n', encoding="utf-8")
    rows = list(read_rows(tmp_path / "rows.jsonl", DataSettings(train="x"), shown_as="rows.jsonl"))
    assert [row.values for row in rows] == [{"a": "b"}]
