"""Where the data of a run is now: the longest end of its name that is there, or the one file that it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from loraloom.data.files.relocation import find_moved
from loraloom.data.formats.row import file_sha256
from loraloom.data.splitting.split import Split, split_examples
from loraloom.errors import DataError
from loraloom.recipe import DataSettings
from loraloom.recipe.relative_paths import Locations

ROW = '{{"instruction": "question {0}", "response": "answer {0}"}}\n'


def write(path: Path, first: int, number: int = 6) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(ROW.format(first + n) for n in range(number)), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("written", "moved_to"),
    [
        ("rows.jsonl", "rows.jsonl"),
        ("shop/rows.jsonl", "shop/rows.jsonl"),
        ("shop/rows.jsonl", "rows.jsonl"),
        ("../data/shop/rows.jsonl", "shop/rows.jsonl"),
        ("/no/such/place/shop/rows.jsonl", "rows.jsonl"),
        ("~/shop/rows.jsonl", "shop/rows.jsonl"),
    ],
)
def test_a_file_is_found_by_the_end_of_its_name(tmp_path: Path, written: str, moved_to: str) -> None:
    file = write(tmp_path / "new" / moved_to, 0)
    found = find_moved(DataSettings(train=written), tmp_path / "new", {written: file_sha256(file)})
    assert found == {written: file}


@pytest.mark.parametrize(
    ("written", "moved_to"),
    [
        *[
            (entry, to)
            for entry in ("shop", "shop/", "shop/*.jsonl", "shop/**/*.jsonl")
            for to in ("new/shop", "new")
        ],
        ("sh*/b.jsonl", "new/shop"),  # not `new`: what the pattern matched is part of the files' names
    ],
)
def test_folders_and_patterns_give_the_same_split(tmp_path: Path, written: str, moved_to: str) -> None:
    old, new = tmp_path / "old", tmp_path / moved_to
    write(old / "shop" / "a.jsonl", 0)
    write(old / "shop" / "b.jsonl", 10)
    settings = DataSettings(train=written, eval=2)
    split = split_examples(settings.in_folder(old))
    new.parent.mkdir(exist_ok=True)
    (old / "shop").rename(new)
    with pytest.raises(DataError):
        Split.restore(split.record(), settings.in_folder(old))
    moved = find_moved(settings, tmp_path / "new", split.files)
    again = Split.restore(split.record(), settings.located(Locations(old, data=moved)))
    assert again.to_json() == split.to_json()  # names as they were written
    write(new / "b.jsonl", 11)
    with pytest.raises(DataError, match=r"b\.jsonl: has changed since it was split"):
        Split.restore(split.record(), settings.located(Locations(old, data=moved)))


def test_a_file_stands_for_the_one_with_its_sum(tmp_path: Path) -> None:
    one, two = write(tmp_path / "1.jsonl", 0), write(tmp_path / "2.jsonl", 10)
    settings = DataSettings(train="one.jsonl", test="two.jsonl", eval=0)
    sums = {"one.jsonl": file_sha256(one), "two.jsonl": file_sha256(two)}
    assert find_moved(settings, two, sums) == {"two.jsonl": two}
    with pytest.raises(DataError, match="is not one of the files that the run started with") as refused:
        find_moved(settings, write(tmp_path / "3.jsonl", 20), sums)
    assert sums["one.jsonl"][:12] in str(refused.value)


def test_what_is_not_on_the_disk_is_not_moved(tmp_path: Path) -> None:
    write(tmp_path / "starter", 0)
    write(tmp_path / "eval.jsonl", 0)
    settings = DataSettings(train=["starter", "hub:some/set"], eval="eval.jsonl")
    assert find_moved(settings, tmp_path, {}) == {"eval.jsonl": tmp_path / "eval.jsonl"}
