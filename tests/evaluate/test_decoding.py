"""Answers obey the recipe alone: greedy ones and beams, whatever generation_config.json the base brings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import GenerationConfig

from loraloom.bank.bank import AdapterBank
from loraloom.base.loading import Base, load_base
from loraloom.errors import ModelError
from loraloom.evaluate.decoding import describe_unused, unused_settings
from loraloom.evaluate.generation import answer
from loraloom.recipe import GenerationSettings
from tests.parity.rig import attach_speaking, random_rows
from tests.tiny import make_folder

SOURCES = [row.input_ids.tolist() for row in random_rows(5, seed=4, vocabulary=50)]
SLOTS = ["a", None, "b"]
GREEDY = GenerationSettings(max_new_tokens=6, batch_size=3)
BEAMS = GenerationSettings(max_new_tokens=6, batch_size=3, num_beams=2)
# What a folder may ask for; with any of them, `generate` would answer otherwise, or hand back another shape.
ASKED: dict[str, dict[str, Any]] = {
    "several answers a row": {"num_return_sequences": 2, "num_beams": 2},
    "a forced language": {"forced_bos_token_id": 9},
    "a forced end": {"forced_eos_token_id": 1},
    "forbidden tokens": {"suppress_tokens": list(range(20, 400)), "begin_suppress_tokens": [11, 12]},
    "bad words": {"bad_words_ids": [[token] for token in range(30, 300)]},
    "a bias": {"sequence_bias": [[[17], 50.0]]},
    "no time": {"max_time": 0.0001},
    "a dict": {"return_dict_in_generate": True, "output_scores": True, "output_attentions": True},
    "at least": {"min_length": 6, "min_new_tokens": 5},
    "groups": {"num_beam_groups": 2, "diversity_penalty": 0.5, "num_beams": 2},
    "early": {"early_stopping": True, "length_penalty": -3.0, "num_beams": 4},
    "penalties": {"repetition_penalty": 5.0, "encoder_repetition_penalty": 3.0, "no_repeat_ngram_size": 1},
    "encoder": {"encoder_no_repeat_ngram_size": 1},
    "sampling": {"do_sample": True, "temperature": 9.0, "top_k": 3, "typical_p": 0.2},
    "decay": {"exponential_decay_length_penalty": [1, 9.0], "renormalize_logits": True},
    "other ends": {"eos_token_id": [1, *range(20, 300)]},
    "another start": {"decoder_start_token_id": 5},
    "no cache": {"use_cache": False},
    "prompt lookup": {"prompt_lookup_num_tokens": 2},
    "stops": {"stop_strings": ["a"]},
}


@pytest.fixture
def bank(mt5: Base) -> AdapterBank:
    bank = AdapterBank(mt5)
    for number, slot in enumerate("ab"):
        attach_speaking(bank, slot, seed=number + 5, strength=0.4, r=3, target_modules=["q", "v", "wo"])
    return bank


@pytest.mark.parametrize("asked", ASKED)
def test_answers_are_those_of_a_base_that_asks_for_nothing(
    bank: AdapterBank, asked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = bank.base.model
    clean = [answer(bank, SLOTS, SOURCES, settings) for settings in (GREEDY, BEAMS)]
    own = GenerationConfig.from_dict({"eos_token_id": 1, **ASKED[asked]})
    monkeypatch.setattr(model, "generation_config", own)
    before = own.to_dict()
    assert [answer(bank, SLOTS, SOURCES, settings) for settings in (GREEDY, BEAMS)] == clean
    assert model.generation_config is own
    assert own.to_dict() == before


def test_the_answers_of_the_tests_above_differ_between_rows_and_models(bank: AdapterBank) -> None:
    for settings in (GREEDY, BEAMS):
        answers = answer(bank, SLOTS, SOURCES, settings)
        assert answers["a"] != answers[None] != answers["b"] != answers["a"]
        assert len({tuple(row) for row in answers["a"]}) > 1


def test_a_folder_that_asks_for_several_answers_gives_each_row_its_own(tmp_path: Path) -> None:
    """Each model's: with two answers a row, the adapter was shown with the base's."""

    def answers(folder: Path) -> Any:
        bank = AdapterBank(load_base(str(folder), dtype="float32", device="cpu"))
        attach_speaking(bank, "a", seed=5, strength=0.4, r=3, target_modules=["q", "v", "wo"])
        return answer(bank, [None, "a"], SOURCES, BEAMS)

    folder = make_folder(tmp_path / "base", "mt5")
    clean = answers(folder)
    file = folder / "generation_config.json"
    asked = {"num_return_sequences": 2, "num_beams": 2, "forced_bos_token_id": 9}
    file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")) | asked), encoding="utf-8")
    assert answers(folder) == clean
    file.unlink()  # then transformers reads them from config.json
    config = folder / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text(encoding="utf-8")) | asked), encoding="utf-8")
    assert answers(folder) == clean
    loaded = load_base(str(folder), dtype="float32", device="cpu")
    assert set(unused_settings(loaded, BEAMS)) == {"num_return_sequences", "forced_bos_token_id"}


@pytest.mark.parametrize("place", ["generation_config.json", "config.json"])
def test_settings_that_transformers_refuses_are_named_and_not_the_weights(tmp_path: Path, place: str) -> None:
    folder = make_folder(tmp_path / "base", "mt5")
    if place == "config.json":
        (folder / "generation_config.json").unlink()
    file = folder / place
    asked = {"num_return_sequences": 2, "do_sample": False, "num_beams": 1}
    file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")) | asked), encoding="utf-8")
    with pytest.raises(ModelError) as caught:
        load_base(str(folder), device="cpu")
    said = str(caught.value)
    assert f"rejects the generation settings in the base's {place}" in said
    assert "num_return_sequences" in said
    assert f"Remove them from {place}" in said
    assert "weights" not in said


def test_the_models_own_settings_come_back_when_answering_fails(
    bank: AdapterBank, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = bank.base.model.generation_config

    def fails(**_: Any) -> None:
        assert bank.base.model.generation_config is not own
        raise ZeroDivisionError

    monkeypatch.setattr(bank.base.model, "generate", fails)
    with pytest.raises(ZeroDivisionError):
        answer(bank, SLOTS, SOURCES, BEAMS)
    assert bank.base.model.generation_config is own


HARMLESS = ("a dict", "no cache", "prompt lookup")


@pytest.mark.parametrize("asked", ASKED)
def test_what_is_not_used_is_said_by_name(mt5: Base, asked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    own = GenerationConfig.from_dict({"eos_token_id": 1, **ASKED[asked]})
    monkeypatch.setattr(mt5.model, "generation_config", own)
    expected = {} if asked in HARMLESS else ASKED[asked]
    assert set(unused_settings(mt5, GREEDY)) == set(expected)
    assert all(key in describe_unused(mt5, GREEDY) for key in expected)


def test_what_the_recipe_sets_alike_and_what_changes_nothing_is_not_mentioned(
    mt5: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    alike = {"num_beams": 2, "max_new_tokens": 6, "eos_token_id": [1], "decoder_start_token_id": 0}
    at_rest = {
        "top_k": 50,
        "temperature": 1.0,
        "num_return_sequences": 1,
        "max_length": 20,
        "do_sample": False,
    }
    monkeypatch.setattr(mt5.model, "generation_config", GenerationConfig(**alike, **at_rest))
    assert unused_settings(mt5, BEAMS) == []
    assert describe_unused(mt5, BEAMS) == ""
    assert set(unused_settings(mt5, GREEDY)) == {"num_beams"}
