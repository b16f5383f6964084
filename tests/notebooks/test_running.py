"""Each notebook runs from its first cell to its last, offline, with shorter trainings."""

from __future__ import annotations

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from transformers import ByT5Tokenizer, T5Config, T5ForConditionalGeneration

ROOT = Path(__file__).resolve().parents[2]


def run(name: str, folder: Path, *changes: tuple[str, str]) -> str:
    """Execute a notebook in a folder; return what its cells printed.

    Args:
        changes: text of its code, and what stands there instead.
    """
    book = nbformat.read(ROOT / "notebooks" / name, as_version=4)
    for old, new in changes:
        holders = [cell for cell in book.cells if cell.cell_type == "code" and old in cell.source]
        assert len(holders) == 1, old
        holders[0].source = holders[0].source.replace(old, new)
    client = NotebookClient(book, timeout=600, resources={"metadata": {"path": str(folder)}})
    client.execute()
    outputs = [output for cell in book.cells for output in cell.get("outputs", [])]
    return "".join(output.get("text", "") for output in outputs)


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))


@pytest.mark.parametrize("name", ["quickstart.ipynb", "quickstart.zh.ipynb"])
def test_the_quickstart_trains_compares_and_leaves_an_adapter(name: str, tmp_path: Path) -> None:
    said = run(name, tmp_path, ("MAX_STEPS = None", "MAX_STEPS = 4"))
    assert "ok dtype | float32: " in said
    assert "main | " in said
    assert (tmp_path / "adapter.zip").is_file()
    assert (tmp_path / "runs" / "quickstart-1" / "report.html").is_file()
    assert (tmp_path / "merged-1" / "config.json").is_file()
    assert "# recognised as" in said or "# Data" in said or "# 数据" in said


def test_the_notebook_for_byt5_trains_on_its_invented_language(tmp_path: Path) -> None:
    settings = {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4}
    config = T5Config(vocab_size=384, feed_forward_proj="gated-gelu", decoder_start_token_id=0, **settings)
    T5ForConditionalGeneration(config).save_pretrained(tmp_path / "byt5-tiny")
    ByT5Tokenizer().save_pretrained(tmp_path / "byt5-tiny")
    said = run(
        "byt5_low_resource.ipynb",
        tmp_path,
        ('else "google/byt5-small"', 'else "byt5-tiny"'),
        ("MAX_STEPS = 600", "MAX_STEPS = 3"),
    )
    assert "invented.jsonl" in said
    assert len((tmp_path / "invented.jsonl").read_text(encoding="utf-8").splitlines()) == 1500
    assert (tmp_path / "byt5-adapter.zip").is_file()
