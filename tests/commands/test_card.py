"""A model card says what is so, runs as it stands, and gives nothing of the machine or the rows away."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from loraloom.cli import app
from loraloom.commands.card import card
from loraloom.commands.compare import compare
from loraloom.commands.merge import merge
from loraloom.errors import RunError
from loraloom.export.merge_text import figures
from loraloom.text.catalogue import rendered, use_catalogue
from loraloom.text.language import catalogue_of
from tests.commands.trained import ROWS, machine_paths, train_small
from tests.families import TINY_FAMILIES

# PEFT still asks transformers for the old name of activation checkpointing.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")


def parts(text: str) -> tuple[dict[str, Any], str]:
    """Front matter and Markdown."""
    empty, front, body = text.split("---\n", 2)
    assert empty == ""
    return yaml.safe_load(front), body


def code_blocks(text: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def run_code(block: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Run a block of a card as somebody would who has pasted it."""
    monkeypatch.chdir(folder)
    names: dict[str, Any] = {}
    exec(compile(block, "card", "exec"), names)
    return names


def assert_gives_nothing_away(text: str, *folders: Path) -> None:
    assert not [path for path in machine_paths(*folders) if path in text]
    assert not [row for row in ROWS if row["instruction"] in text or row["output"] in text]


def test_every_adapter_folder_has_a_card_whose_code_runs(
    kind: str,
    trained: Callable[..., Path],
    tiny: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = trained(kind)
    text = (run / "adapters" / "main" / "README.md").read_text(encoding="utf-8")
    front, body = parts(text)
    assert front["base_model"] == kind
    assert (front["library_name"], front["pipeline_tag"]) == ("peft", "text2text-generation")
    assert {"lora", f"base_model:adapter:{kind}"} <= set(front["tags"])
    assert body.startswith(f"\n# main: a LoRA adapter for {kind}\n")
    best = json.loads((run / "result.json").read_text(encoding="utf-8"))["experiments"]["main"]
    assert (
        f"step {best['best_step']} was best: eval_loss {best['best_metric']:.4f} on the 6 eval rows" in body
    )
    assert "18 train, 6 eval rows" in body
    split = json.loads((run / "split.json").read_text(encoding="utf-8"))
    assert f"- `rows.json`: `{next(iter(split['files'].values()))}`" in body
    assert "| learning_rate | 0.02, linear |" in body
    assert_gives_nothing_away(text, run, tiny(kind))

    folder = Path(shutil.copytree(run / "adapters" / "main", tmp_path / "adapter"))
    (folder / kind).symlink_to(tiny(kind))  # on the hub, its name is enough
    (block,) = code_blocks(text)
    model = run_code(block, folder, monkeypatch)["model"]
    assert type(model).__name__ == "PeftModelForSeq2SeqLM"
    if TINY_FAMILIES[kind].flag_matters_here:
        assert model.config.tie_word_embeddings is False
    assert capsys.readouterr().out


def test_identical_trainings_write_identical_cards(
    trained: Callable[..., Path], tiny: Callable[[str], Path], tmp_path: Path
) -> None:
    one, other = (run / "adapters" / "main" for run in (trained("mt5"), train_small(tmp_path, tiny("mt5"))))
    files = sorted(file.name for file in one.iterdir())
    assert "README.md" in files
    assert all((one / name).read_bytes() == (other / name).read_bytes() for name in files)


def test_a_card_says_how_sources_were_written(tiny: Callable[[str], Path], tmp_path: Path) -> None:
    run = train_small(tmp_path, tiny("mt5"), source_prefix="Answer `kindly`: {instruction} |")
    text = card(run)["card"]
    assert "Every source was written as `` Answer `kindly`: {instruction} | ``" in text
    assert 'tokenizer("Answer `kindly`: Your text here |", return_tensors="pt", ' in text


@pytest.mark.usefixtures("proof_here")
def test_a_runs_card_has_figures_once_they_are_computed(
    trained: Callable[..., Path],
    tiny: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = Path(shutil.copytree(trained("mt5"), tmp_path / "runs" / "mine"))
    before = card(run)["card"]
    assert "No figures were computed. `loraloom compare mine` computes them" in before
    found = compare(run)
    text = card(run)["card"]
    front, body = parts(text)
    assert front["base_model"] == "mt5"
    assert found.sentences[0] in body
    (chrf,) = [each for each in found.differences if each.metric == "chrf"]
    assert f"{chrf.difference:+.4f} ({chrf.low:+.4f} to {chrf.high:+.4f})" in body
    with use_catalogue(catalogue_of("zh")):
        assert f"{chrf.difference:+.4f}（{chrf.low:+.4f} 至 {chrf.high:+.4f}）" in card(run)["card"]
    assert "These rows selected the checkpoint, so the figures are optimistic." in body
    assert re.search(r"Movement, ‖ΔW‖ / ‖W‖: 0\.\d+ over all adapted linears", body)
    assert_gives_nothing_away(text, run, tiny("mt5"), tmp_path)
    columns = {line.count("|") - line.count("\\|") for line in body.splitlines() if line.startswith("| ")}
    assert columns == {3, 6}

    (dtype, *_) = figures(merge(run, run / "merged"))
    assert rendered(dtype[1], catalogue_of("zh")) == "float32（与基座的文件相同）"
    (run / "mt5").symlink_to(tiny("mt5"))
    with_peft, after_merge = code_blocks(text)
    answers = [run_code(block, run, monkeypatch)["answer"].tolist() for block in (with_peft, after_merge)]
    assert answers[0] == answers[1]
    block = code_blocks((run / "merged" / "README.md").read_text(encoding="utf-8"))[0]
    assert run_code(block, run / "merged", monkeypatch)["answer"].tolist() == answers[0]


def test_figures_of_other_experiments_are_not_ones_own(trained: Callable[..., Path], tmp_path: Path) -> None:
    run = Path(shutil.copytree(trained("mt5", "narrow", "wide"), tmp_path / "run"))
    compare(run, experiments=["wide"])
    assert "No figures were computed" in card(run, experiment="narrow")["card"]
    with pytest.raises(RunError, match=r"several experiments.*narrow \(eval_loss .*wide"):
        card(run)
    (run / "compare" / "eval.json").write_text('{"models": {"wide": {}}}', encoding="utf-8")
    with pytest.raises(RunError, match=r"eval\.json: is damaged: .*`loraloom compare run` writes it again"):
        card(run, experiment="wide")


def test_on_the_command_line(trained: Callable[..., Path], tmp_path: Path) -> None:
    run, out = str(trained("mt5")), tmp_path / "card.md"
    shown = CliRunner().invoke(app, ["card", run])
    assert shown.exit_code == 0
    assert shown.stdout == card(Path(run))["card"]
    told = CliRunner().invoke(app, ["card", run, "--out", str(out), "--json"])
    assert json.loads(told.stdout)["file"] == str(out)
    assert out.read_text(encoding="utf-8") == shown.stdout
    with pytest.raises(RunError, match="cannot be written: No such file or directory"):
        card(Path(run), out=tmp_path / "no" / "card.md")


def test_a_card_that_cannot_be_made_costs_no_adapter(
    tiny: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(path: Path) -> None:
        raise RunError("cannot be read", where=str(path))

    monkeypatch.setattr("loraloom.training.card_facts.SplitRecord.read", unreadable)
    adapter = train_small(tmp_path, tiny("mt5")) / "adapters" / "main"
    assert (adapter / "adapter_model.safetensors").is_file()
    assert not (adapter / "README.md").exists()
