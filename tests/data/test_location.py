"""Files, folders, patterns and saved datasets: which files they are, in which order, and what is left out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from data_files import good_rows, refusal, write_lines

from loraloom.data.files.data_names import name_of
from loraloom.data.files.location import locate
from loraloom.recipe.relative_paths import Locations


@pytest.fixture
def folder(tmp_path):
    """data/ with b, a and c, a hidden file, a note and a subfolder."""
    inside = tmp_path / "data"
    (inside / "raw").mkdir(parents=True)
    for name in ("b.jsonl", "a.jsonl", ".hidden.jsonl", "raw/x.jsonl"):
        write_lines(inside / name, good_rows(2))
    (inside / "c.csv.gz").write_bytes(b"")
    (inside / "README.md").write_text("about")
    return tmp_path


def names(located):
    return [file.name for file in located.files]


@pytest.mark.parametrize("value", ["data", "data/", "data/*", ["data"], "data/*.*"])
def test_a_folder_is_its_data_files_sorted_and_the_rest_is_said(folder, value):
    located = locate("train", value, Locations(folder))
    assert names(located) == ["data/a.jsonl", "data/b.jsonl", "data/c.csv.gz"]
    assert [file.path for file in located.files] == [folder / name for name in names(located)]
    (note,) = located.notes
    assert "3 data files; skipped: " in note
    assert "hidden: `.hidden.jsonl`" in note
    assert "not data: `README.md`" in note
    assert ("subfolders: `raw`" in note) == (value != "data/*.*")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("data/b.jsonl", ["data/b.jsonl"]),
        (["data/b.jsonl", "data/a.jsonl"], ["data/b.jsonl", "data/a.jsonl"]),
        ("data/[ab].jsonl", ["data/a.jsonl", "data/b.jsonl"]),
        ("*/?.jsonl", ["data/a.jsonl", "data/b.jsonl"]),
        ("./data/a*.jsonl", ["data/a.jsonl"]),
        ("data/**/*.jsonl", ["data/a.jsonl", "data/b.jsonl", "data/raw/x.jsonl"]),
        (["data/raw", "data/a*"], ["data/raw/x.jsonl", "data/a.jsonl"]),
        ("data/.hidden*", ["data/.hidden.jsonl"]),
    ],
)
def test_names_patterns_and_lists(folder, value, expected):
    assert names(locate("train", value, Locations(folder))) == expected


def test_absolute_and_home_patterns_keep_what_the_user_wrote(folder, monkeypatch):
    absolute = str(folder / "data" / "[ab].jsonl")
    assert names(locate("train", absolute, Locations(Path("elsewhere")))) == [
        f"{folder}/data/a.jsonl",
        f"{folder}/data/b.jsonl",
    ]
    monkeypatch.setenv("HOME", str(folder))
    located = locate("train", "~/data/[ab].jsonl", Locations(Path("elsewhere")))
    assert names(located) == ["~/data/a.jsonl", "~/data/b.jsonl"]
    assert located.files[0].path == folder / "data" / "a.jsonl"


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(tmp_path):
    for name in ("rows[1].jsonl", "rows1.jsonl"):
        write_lines(tmp_path / name, good_rows(2))
    assert names(locate("train", "rows[1].jsonl", Locations(tmp_path))) == ["rows[1].jsonl"]


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("data/*.tsv", ("data.train: matches no file", "`data/*.tsv`", "which contains", "`a.jsonl`")),
        ("data/*.md", ("matches no data file", ".jsonl")),
        (
            "gone/*.jsonl",
            ("matches no file", "gone does not exist", "relative to its folder"),
        ),
        ("empty", ("contains no data file", "`empty`")),
        ("outer", ("contains no data file", "`outer/data`")),
        (
            ["data/a.jsonl", "./data/a.jsonl"],
            ("names the same file twice", "also under the name `data/a.jsonl`"),
        ),
        (["data/a.jsonl", "data/a.jsonl"], ("names the same file twice",)),
        (["data", "data/b*"], ("names the same file twice", "data/b.jsonl")),
        (["data/*.tsv", "gone/*.x"], ("`data/*.tsv`", "`gone/*.x`", "2 problems in all")),
    ],
)
def test_what_names_nothing_or_one_file_twice_is_refused(folder, value, told):
    (folder / "empty").mkdir()
    (folder / "outer" / "data").mkdir(parents=True)
    message = refusal(locate, "train", value, Locations(folder))
    for words in told:
        assert words in message
    if isinstance(value, str) and "*" in value:
        assert str(folder) in message


@pytest.mark.parametrize("value", ["parts", "parts/*", "parts/**/*"])
@pytest.mark.parametrize(
    "files",
    [
        ("train.jsonl", "test.jsonl"),
        ("train-00000-of-00002.jsonl", "train-00001-of-00002.jsonl", "validation-00000-of-00001.jsonl"),
        ("my_train.jsonl", "my_dev.jsonl.gz"),
    ],
)
def test_files_of_several_parts_are_not_one_part(tmp_path, value, files):
    (tmp_path / "parts").mkdir()
    for name in files:
        (tmp_path / "parts" / name).write_text("")
    message = refusal(locate, "train", value, Locations(tmp_path))
    assert "suggest several parts" in message
    assert f"parts/{files[0]}" in message
    listed = [f"parts/{name}" for name in files]
    assert names(locate("train", listed, Locations(tmp_path))) == listed
    assert names(locate("train", "parts/*train*", Locations(tmp_path))) == [
        name for name in listed if "train" in name
    ]


def test_names_that_only_contain_such_a_word_are_one_part(tmp_path):
    for name in ("trainer.jsonl", "contest.jsonl", "latest.jsonl"):
        (tmp_path / name).write_text("")
    assert len(names(locate("train", ".", Locations(tmp_path)))) == 3


def test_the_starter_has_a_file_for_each_key(tmp_path):
    files = [locate(key, "starter", Locations(tmp_path)).files for key in ("train", "eval", "test", "retain")]
    assert [own[0].name for own in files] == [
        f"starter:{name}.json" for name in ("train", "eval", "test", "probe")
    ]


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("rows.json.gz", "rows"),
        ("a/b.c.jsonl", "b.c"),
        ("shop/*.csv", "shop"),
        ("shop/sales-*.csv", "sales"),
        (["x/first.csv", "second.csv"], "first"),
        ("hub:owner/name", "name"),
        ("starter", "starter"),
        ("*.csv", "data"),
        (".", "data"),
        ("..", "data"),
        ("folder/", "folder"),
    ],
)
def test_what_a_run_of_some_data_is_called(value, name):
    assert name_of(value) == name


class TestSaved:
    """Folders of `save_to_disk`."""

    @pytest.fixture
    def saved(self, tmp_path):
        """A Dataset in two files with a cache beside them, and a DatasetDict, as datasets lays them out."""
        self.lay_out(tmp_path / "one", ["data-00001-of-00002.arrow", "data-00000-of-00002.arrow"])
        (tmp_path / "one" / "cache-77.arrow").write_bytes(b"")
        for split in ("train", "validation"):
            self.lay_out(tmp_path / "dict" / split, ["data-00000-of-00001.arrow"])
        (tmp_path / "dict" / "dataset_dict.json").write_text('{"splits": ["train", "validation"]}')
        return tmp_path

    @staticmethod
    def lay_out(folder, files, **state):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "dataset_info.json").write_text("{}")
        listed = {"_data_files": [{"filename": name} for name in files], **state}
        (folder / "state.json").write_text(json.dumps(listed))
        for name in files:
            (folder / name).write_bytes(b"")

    @pytest.mark.parametrize("value", ["one", "one/", "on*"])
    def test_a_dataset_is_the_files_of_its_state_in_their_order(self, saved, value):
        assert names(locate("train", value, Locations(saved))) == [
            "one/data-00001-of-00002.arrow",
            "one/data-00000-of-00002.arrow",
        ]

    def test_a_pattern_of_its_files_leaves_caches_out(self, saved):
        located = locate("train", "one/*.arrow", Locations(saved))
        assert names(located) == ["one/data-00000-of-00002.arrow", "one/data-00001-of-00002.arrow"]
        assert "caches: `cache-77.arrow`" in located.notes[0]

    @pytest.mark.parametrize(("key", "split"), [("train", "train"), ("eval", "validation")])
    def test_a_dict_is_the_split_of_the_key(self, saved, key, split):
        located = locate(key, "dict", Locations(saved))
        assert names(located) == [f"dict/{split}/data-00000-of-00001.arrow"]
        assert f"data.{key} uses its split `{split}`" in located.notes[0]

    def test_a_split_may_be_chosen_or_named(self, saved):
        chosen = locate("train", "dict", Locations(saved), split="validation")
        assert names(chosen) == names(locate("train", "dict/validation", Locations(saved)))

    def test_a_split_that_is_not_there_is_refused_with_those_that_are(self, saved):
        message = refusal(locate, "test", "dict", Locations(saved))
        assert "data.test: the saved DatasetDict has no split `test`" in message
        assert "`dict/train` or `dict/validation`" in message
        assert "no split `other`" in refusal(locate, "train", "dict", Locations(saved), split="other")

    @pytest.mark.parametrize(
        ("state", "told"),
        [
            ("{", "one/state.json: is damaged"),
            ("[]", "is damaged"),
            ("{}", "lists no files"),
            ('{"_data_files": [{"filename": "../x.arrow"}]}', "lists no files"),
            (
                '{"_data_files": [{"filename": "a.arrow"}], "_indices_data_files": [{"filename": "i"}]}',
                "flatten_indices",
            ),
        ],
    )
    def test_a_damaged_one_is_refused(self, saved, state, told):
        (saved / "one" / "state.json").write_text(state)
        assert told in refusal(locate, "train", "one", Locations(saved))
        (saved / "dict" / "dataset_dict.json").write_text('{"splits": ["../train"]}')
        assert "lists no splits" in refusal(locate, "train", "dict", Locations(saved))
