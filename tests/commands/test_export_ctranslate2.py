"""Exports to CTranslate2: every family in its own Translator, and the bytes of its own converter."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from loraloom.commands.export import export
from loraloom.errors import ModelError
from tests.commands.exporting import assert_nothing_left, example_in, prove_here, run_example, with_generation
from tests.commands.trained import train_small, train_token_rows
from tests.tiny import make_folder

ctranslate2 = pytest.importorskip("ctranslate2", reason="`make extras` installs it")

QUANTIZATIONS = ("float32", "int8", "int16", "bfloat16")


@pytest.mark.parametrize(
    "kind", ["t5", "mt5", "flan", "umt5", "bart", "mbart", "m2m100", "marian", "pegasus"]
)
def test_every_family_answers_as_base_and_adapter(
    kind: str, trained: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prove_here(monkeypatch)
    made = export(trained(kind), tmp_path / "ct2", format="ctranslate2")
    proof = made["proof"]
    assert proof is not None
    assert proof["runtime"] == f"ctranslate2 {ctranslate2.__version__}"
    assert proof["measured"]["num_same_answers"] == proof["measured"]["num_answers"] == 6
    # Marian's converter leaves <pad> out of the vocabulary, a word of some 450 here.
    assert proof["measured"]["largest_difference"] < (5e-3 if kind == "marian" else 1e-4)
    export(trained(kind), tmp_path / "plain", format="transformers")
    said = [run_example(tmp_path / name, monkeypatch) for name in ("ct2", "plain")]
    assert said[0] == said[1]


@pytest.mark.parametrize("kind", ["mt5", "bart", "mbart"])
@pytest.mark.parametrize(
    "settings",
    [
        {"num_beams": 3, "length_penalty": 0.5},
        {"no_repeat_ngram_size": 2},
        {"repetition_penalty": 1.5},
    ],
    ids=str,
)
def test_it_decodes_as_the_recipe_says(
    kind: str,
    settings: dict[str, float],
    trained: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    prove_here(monkeypatch)
    run = with_generation(trained(kind), tmp_path / "run", settings)
    made = {name: export(run, tmp_path / name, format=name) for name in ("ctranslate2", "transformers")}
    for each in made.values():
        assert each["proof"] is not None
        assert each["proof"]["decoding"] == settings
        assert each["proof"]["measured"]["num_same_decoded"] == 6
    said = [run_example(tmp_path / name, monkeypatch) for name in made]
    assert said[0] == said[1]
    assert "its own rules" not in " ".join(made["ctranslate2"]["notes"])


@pytest.mark.parametrize("settings", [{"repetition_penalty": 1.3}, {"no_repeat_ngram_size": 2}], ids=str)
def test_decoding_that_it_does_in_another_way_is_said(
    settings: dict[str, float], trained: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With beams, transformers 5.23 changes log-probabilities, and CTranslate2 4.8.5 logits: other sums."""
    prove_here(monkeypatch)
    run = with_generation(trained("bart"), tmp_path / "run", {"num_beams": 4, **settings})
    made = export(run, tmp_path / "out", format="ctranslate2")
    assert made["proof"] is not None
    num_same = made["proof"]["measured"]["num_same_decoded"]
    assert num_same < 6
    ((name, value),) = settings.items()
    said = (
        f"with num_beams 4, {name} {value:g}, {6 - num_same} of 6 answers differ from those of base + adapter"
    )
    assert any(note.startswith(said) for note in made["notes"])


def test_sampling_is_passed_and_not_compared(
    trained: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prove_here(monkeypatch)
    settings = {"do_sample": True, "top_k": 5, "temperature": 0.5}
    run = with_generation(trained("mt5"), tmp_path / "run", settings)
    made = export(run, tmp_path / "out", format="ctranslate2")
    assert made["proof"] is not None
    assert made["proof"]["measured"]["num_same_decoded"] is None
    code = example_in(tmp_path / "out")
    assert "beam_size=1, sampling_topk=5, sampling_topp=1, sampling_temperature=0.5, " in code
    assert run_example(tmp_path / "out", monkeypatch)


@pytest.mark.parametrize("kind", ["t5", "mt5", "bart"])
def test_trained_rows_of_the_embeddings_are_in_the_model(
    kind: str, tiny: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In tied heads (T5, BART) too, and not in a head of its own (mT5)."""
    prove_here(monkeypatch)
    run = train_token_rows(tmp_path / "trained", tiny(kind))
    measured = export(run, tmp_path / "out", format="ctranslate2")["proof"]["measured"]  # type: ignore[index]
    assert measured["num_same_answers"] == measured["num_answers"] == 6
    assert measured["largest_difference"] < 1e-4


@pytest.mark.parametrize(("kind", "tied"), [("mt5", True), ("umt5", True), ("bart", False)])
def test_a_head_that_is_not_as_in_the_real_model(
    kind: str, tied: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prove_here(monkeypatch)
    run = train_small(tmp_path / "trained", make_folder(tmp_path / "base", kind, tied=tied))
    made = export(run, tmp_path / "out", format="ctranslate2")
    assert made["proof"] is not None
    assert made["proof"]["measured"]["largest_difference"] < 1e-4


@pytest.mark.parametrize("quantization", QUANTIZATIONS)
def test_the_files_are_those_of_its_own_converter(
    quantization: str, trained: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Converter(ctranslate2.converters.TransformersConverter):  # type: ignore[name-defined,misc]
        def load_model(self, model_class: Any, name: str, **options: Any) -> Any:
            model = super().load_model(model_class, name, **options)
            model.config.tie_word_embeddings = False
            return model

    prove_here(monkeypatch)
    run = trained("mt5")
    made = export(run, tmp_path / "ours", format="ctranslate2", quantization=quantization)
    export(run, tmp_path / "merged", format="transformers")
    Converter(str(tmp_path / "merged")).convert(str(tmp_path / "bare"), quantization=quantization)
    for name in ("model.bin", "config.json", "shared_vocabulary.json"):
        assert (tmp_path / "ours" / name).read_bytes() == (tmp_path / "bare" / name).read_bytes(), name
    proof = made["proof"]
    assert proof is not None
    assert bool(proof["figures"]) == (quantization != "float32")
    assert json.loads((tmp_path / "ours" / "config.json").read_text())["decoder_start_token"] == "<pad>"


@pytest.mark.parametrize(
    ("kind", "quantization", "reason"),
    [("t5gemma", None, "soft caps"), ("mt5", "float16", "overflows in float16")],
)
def test_what_would_be_wrong_is_refused(
    kind: str, quantization: str | None, reason: str, trained: Callable[..., Path], tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=reason):
        export(trained(kind), tmp_path / "out", format="ctranslate2", quantization=quantization)
    assert_nothing_left(tmp_path)


def test_the_proof_in_a_process_of_its_own(trained: Callable[..., Path], tmp_path: Path) -> None:
    made = export(trained("bart"), tmp_path / "out", format="ctranslate2", quantization="float16")
    assert made["proof"] is not None
    assert made["proof"]["measured"]["num_answers"] == 6
