"""A merged folder carries its base's own tokenizer files, and plain transformers reads the same tokens."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from huggingface_hub import constants
from transformers import AutoTokenizer

from loraloom.base.loading import Base, load_base
from loraloom.commands.merge import merge
from loraloom.export.merged_tokenizer import copy_tokenizer
from tests.commands.trained import ROWS, train_small
from tests.tiny import make_folder

TEXTS = [text for row in ROWS for text in row.values()]
SAVED = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")


def without_tokenizer(folder: Path, **changes: Any) -> Path:
    """A tiny mT5 that has no tokenizer file."""
    make_folder(folder, "mt5", **changes)
    for name in SAVED:
        (folder / name).unlink(missing_ok=True)
    return folder


def published(folder: Path) -> Path:
    """A tiny mT5 with a tokenizer as T5's are published: spiece.model, and a config written by hand."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS),
        model_writer=model,
        vocab_size=60,
        hard_vocab_limit=False,
        character_coverage=1.0,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    without_tokenizer(folder)
    (folder / "spiece.model").write_bytes(model.getvalue())
    tokens = {"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    (folder / "special_tokens_map.json").write_text(json.dumps(tokens), encoding="utf-8")
    config = {"tokenizer_class": "T5Tokenizer", "extra_ids": 10, "model_max_length": 512, **tokens}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def with_stored_call(folder: Path) -> Path:
    """A published one that somebody saved after a call which cut to 5 tokens and padded to 9."""
    backend = AutoTokenizer.from_pretrained(published(folder)).backend_tokenizer
    backend.enable_truncation(max_length=5)
    backend.enable_padding(length=9)
    backend.save(str(folder / "tokenizer.json"))
    return folder


def base_of(folder: Path | str) -> Base:
    return load_base(str(folder), dtype="float32", device="cpu")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


@pytest.mark.usefixtures("proof_here")
def test_a_merged_folder_has_the_bases_own_files_and_cuts_nothing(tmp_path: Path) -> None:
    base = with_stored_call(tmp_path / "base")
    for name in ("tokenization_own.py", "tokenizer.pkl", "notes.txt"):
        (base / name).write_text("no tokenizer file", encoding="utf-8")
    run = train_small(tmp_path / "trained", base)
    result = merge(run, tmp_path / "merged")
    merged = tmp_path / "merged"
    assert {file.name for file in merged.iterdir()} == {
        *SAVED,
        "spiece.model",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "README.md",
    }
    for name in ("spiece.model", "special_tokens_map.json", "tokenizer_config.json"):
        assert (merged / name).read_bytes() == (base / name).read_bytes(), name
    own, theirs = (json.loads((f / "tokenizer.json").read_text(encoding="utf-8")) for f in (merged, base))
    assert theirs["truncation"]["max_length"] == 5
    assert list(own.items()) == list({**theirs, "truncation": None, "padding": None}.items())
    (note,) = [note for note in result["notes"] if "tokenizer.json" in note]
    assert "stores truncation (to 5 tokens) and padding from an earlier call" in note

    (base / "tokenizer.json").unlink()  # what the base's tokenizer says, converted from its pieces
    plain, read = AutoTokenizer.from_pretrained(base), AutoTokenizer.from_pretrained(merged)
    assert [read(text)["input_ids"] for text in TEXTS] == [plain(text)["input_ids"] for text in TEXTS]
    assert max(len(read(text)["input_ids"]) for text in TEXTS) > 9
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(merged / "spiece.model"))
    assert read("我感到焦虑 3 how?")["input_ids"][:-1] == pieces.encode("我感到焦虑 3 how?")


def test_a_base_of_pieces_alone_stays_one_of_pieces_alone(tmp_path: Path, out: Path) -> None:
    base = base_of(published(tmp_path / "base"))
    assert copy_tokenizer(base, out) == []
    assert sorted(file.name for file in out.iterdir()) == [
        "special_tokens_map.json",
        "spiece.model",
        "tokenizer_config.json",
    ]


@pytest.mark.filterwarnings("ignore::UserWarning:huggingface_hub")
def test_a_hub_names_files_are_taken_from_its_cache(
    tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached = tmp_path / "hub" / "models--some-one--tiny-t5"
    snapshot = cached / "snapshots" / ("a" * 40)
    blobs = with_stored_call(cached / "blobs")
    snapshot.mkdir(parents=True)
    for blob in blobs.iterdir():
        (snapshot / blob.name).symlink_to(blob)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("a" * 40, encoding="utf-8")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    base = base_of("some-one/tiny-t5")
    (note,) = copy_tokenizer(base, out)
    assert "stores truncation" in note
    assert not [file for file in out.iterdir() if file.is_symlink()]
    assert (out / "spiece.model").read_bytes() == (snapshot / "spiece.model").read_bytes()
    assert json.loads((out / "tokenizer.json").read_text(encoding="utf-8"))["padding"] is None
    assert json.loads((blobs / "tokenizer.json").read_text(encoding="utf-8"))["padding"] is not None


def test_a_base_without_a_tokenizer_file_says_that_its_tokenizer_was_saved_anew(
    tmp_path: Path, out: Path
) -> None:
    folder = without_tokenizer(tmp_path / "bytes", vocab_size=384)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["tokenizer_class"] = "ByT5Tokenizer"
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    base = base_of(folder)
    (note,) = copy_tokenizer(base, out)
    assert "the base has no tokenizer files" in note
    read = AutoTokenizer.from_pretrained(out)
    assert read("我 a")["input_ids"] == base.tokenizer("我 a")["input_ids"]


def test_files_for_certain_versions_are_taken_along_and_no_path_is_followed(
    tiny: Callable[[str], Path], tmp_path: Path, out: Path
) -> None:
    folder = Path(shutil.copytree(tiny("mt5"), tmp_path / "base"))
    shutil.copyfile(folder / "tokenizer.json", folder / "tokenizer.4.0.0.json")
    config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    config["fast_tokenizer_files"] = ["tokenizer.4.0.0.json", "tokenizer.json"]
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    base = base_of(folder)
    assert copy_tokenizer(base, out) == []
    assert (out / "tokenizer.4.0.0.json").read_bytes() == (folder / "tokenizer.json").read_bytes()
    assert not (out / "config.json").exists()
