"""What became of each setting that the base's own files state, whichever file that is."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import GenerationConfig

from loraloom.base.loading import Base, load_base
from loraloom.commands.merge import merge
from loraloom.errors import ModelError
from loraloom.export.merged_generation import GenerationDefaults, merged_generation_config
from loraloom.recipe import GenerationSettings
from tests.commands.trained import train_small
from tests.events import message_of
from tests.tiny import make_folder

OWN = {
    "num_beams": 4,
    "max_length": 20,
    "forced_bos_token_id": 7,
    "suppress_tokens": [3, 4],
    "eos_token_id": [1, 9],
    "bos_token_id": 5,
}
# What `save_pretrained` of older versions writes out, though it does nothing.
FULL = {
    "do_sample": False,
    "early_stopping": False,
    "length_penalty": 1.0,
    "min_length": 0,
    "num_beams": 1,
    "num_return_sequences": 1,
    "output_scores": False,
    "return_dict_in_generate": False,
    "suppress_tokens": None,
    "bad_words_ids": None,
    "sequence_bias": {},
    "temperature": 1.0,
    "top_k": 50,
    "top_p": 1.0,
    "transformers_version": "4.30.0",
}


@pytest.fixture
def based(tiny: Callable[[str], Path], tmp_path: Path) -> Callable[..., Base]:
    """`based(stated, config)` → a base with that generation_config.json (or none) and keys in config.json."""

    def made(stated: dict[str, Any] | None, config: dict[str, Any] | None = None) -> Base:
        folder = Path(shutil.copytree(tiny("mt5"), tmp_path / "base"))
        if stated is None:
            (folder / "generation_config.json").unlink()
        else:
            (folder / "generation_config.json").write_text(json.dumps(stated), encoding="utf-8")
        values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        (folder / "config.json").write_text(json.dumps({**values, **(config or {})}), encoding="utf-8")
        return load_base(str(folder), dtype="float32", device="cpu")

    return made


def settings(**values: Any) -> GenerationSettings:
    return GenerationSettings(max_new_tokens=33, **values)


@pytest.mark.parametrize("where", ["its own file", "marked", "config.json"])
def test_every_stated_setting_is_accounted_for_wherever_it_is_stated(
    based: Callable[..., Base], where: str
) -> None:
    stated = {"its own file": OWN, "marked": {**OWN, "_from_model_config": True}, "config.json": None}[where]
    base = based(stated, None if stated else OWN)
    config, inherited = merged_generation_config(base, settings())
    assert inherited.file == ("config.json" if stated is None else "generation_config.json")
    assert inherited.replaced == {"num_beams": [4, 1], "max_length": [20, 33], "eos_token_id": [[1, 9], 1]}
    assert inherited.dropped == {"forced_bos_token_id": 7, "suppress_tokens": [3, 4]}
    assert inherited.kept["bos_token_id"] == 5
    assert (config.bos_token_id, config.eos_token_id, config.forced_bos_token_id) == (5, 1, None)
    replaced, dropped, kept = inherited.notes()
    for pair in ("num_beams 4 → 1", "max_length 20 → max_new_tokens 33", "eos_token_id [1, 9] → 1"):
        assert pair in replaced
    assert f"dropped from the base's {inherited.file}: forced_bos_token_id 7, suppress_tokens" in dropped
    assert "bos_token_id 5" in kept


@pytest.mark.parametrize("marked", [{}, {"_from_model_config": True}])
def test_values_at_rest_are_nothing_to_speak_of(based: Callable[..., Base], marked: dict[str, bool]) -> None:
    _, inherited = merged_generation_config(based({**FULL, **marked, "eos_token_id": 1}), settings())
    assert inherited == GenerationDefaults("generation_config.json", kept={"eos_token_id": 1})
    assert inherited.notes() == []


def test_settings_for_tasks_do_not_go_before_the_recipes(based: Callable[..., Base], tmp_path: Path) -> None:
    """T5's config.json has them: beams, lengths and a prefix for `pipeline("summarization")`."""
    tasks = {"translation_en_to_de": {"prefix": "translate: "}, "summarization": {"num_beams": 4}}
    base = based({"eos_token_id": 1}, {"task_specific_params": tasks})
    _, inherited = merged_generation_config(base, settings())
    assert inherited.tasks == ["summarization", "translation_en_to_de"]
    dropped, kept = inherited.notes()
    assert "dropped from the base's config.json: task_specific_params" in dropped
    assert "summarization" in dropped
    assert "eos_token_id 1" in kept
    base.model.config.save_pretrained(tmp_path / "merged")
    saved = json.loads((tmp_path / "merged" / "config.json").read_text(encoding="utf-8"))
    assert not saved.get("task_specific_params")


def test_keys_in_config_json_count_only_if_there_is_no_other_file(based: Callable[..., Base]) -> None:
    """As transformers reads them."""
    base = based({"num_beams": 3, "eos_token_id": 1}, {"num_beams": 5, "forced_bos_token_id": 7})
    assert base.model.generation_config.num_beams == 3
    _, inherited = merged_generation_config(base, settings())
    assert (inherited.replaced, inherited.dropped) == ({"num_beams": [3, 1]}, {})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("forced_eos_token_id", 1),
        ("begin_suppress_tokens", [3]),
        ("sequence_bias", [[[4], -2.0]]),
        ("bad_words_ids", [[8, 9]]),
        ("max_time", 2.5),
        ("num_return_sequences", 2),
        ("return_dict_in_generate", True),
        ("min_length", 5),
        ("early_stopping", True),
        ("stop_strings", ["。"]),
        ("not_known_to_anybody", "x"),
    ],
)
def test_what_loraloom_answers_without_is_dropped_by_name(
    based: Callable[..., Base], key: str, value: Any
) -> None:
    config, inherited = merged_generation_config(based({key: value, "num_beams": 2}), settings(num_beams=2))
    assert inherited.dropped == {key: value}
    assert inherited.kept == {"num_beams": 2}
    assert getattr(config, key, None) in (None, GenerationConfig().to_dict().get(key))
    assert f"{key} " in inherited.notes()[0]


def test_a_long_list_is_shortened_in_words_and_whole_in_the_result(based: Callable[..., Base]) -> None:
    many = list(range(100, 190))
    _, inherited = merged_generation_config(based({"suppress_tokens": many}), settings())
    assert inherited.as_dict()["dropped"] == {"suppress_tokens": many}
    (note,) = inherited.notes()
    assert "[100, 101, 102" in note
    assert "… (90 values);" in note


def test_a_temperature_that_greedy_ignores_does_not_stop_the_merged_model_from_being_saved(
    based: Callable[..., Base], tmp_path: Path
) -> None:
    base = based({"temperature": 0.7, "top_p": 0.9, "num_beams": 4, "max_length": 20, "eos_token_id": 1})
    for chosen in (
        settings(),
        settings(do_sample=True, top_p=0.9),
        settings(num_beams=3, length_penalty=0.5),
    ):
        config, inherited = merged_generation_config(base, chosen)
        config.save_pretrained(
            tmp_path / "saved"
        )  # of a changed one, transformers would refuse a temperature
        same = {"top_p"} if chosen.do_sample else set()
        assert set(inherited.replaced) == {"temperature", "top_p", "num_beams", "max_length"} - same
        read = GenerationConfig.from_pretrained(tmp_path / "saved")
        assert (read.num_beams, read.do_sample) == (chosen.num_beams, chosen.do_sample)
        assert read.top_k == (0 if chosen.do_sample else None)  # transformers would put 50 here


def test_a_damaged_file_is_said(based: Callable[..., Base], tmp_path: Path) -> None:
    base = based({"eos_token_id": 1})
    (tmp_path / "base" / "generation_config.json").write_text("[]", encoding="utf-8")
    with pytest.raises(ModelError, match=r"generation_config\.json is not a JSON object"):
        merged_generation_config(base, settings())


@pytest.mark.usefixtures("proof_here")
def test_a_merge_says_it_in_its_result_and_its_readme(tmp_path: Path) -> None:
    base = make_folder(tmp_path / "base", "t5")
    values = {**OWN, "temperature": 0.7, "_from_model_config": True}
    (base / "generation_config.json").write_text(json.dumps(values), encoding="utf-8")
    run = train_small(tmp_path / "trained", base)
    told: list[str] = []
    result = merge(run, tmp_path / "merged", report=lambda event: told.append(message_of(event)))
    assert result["generation"]["dropped"] == {"forced_bos_token_id": 7, "suppress_tokens": [3, 4]}
    assert result["generation"]["replaced"]["temperature"] == [0.7, None]
    card = (tmp_path / "merged" / "README.md").read_text(encoding="utf-8")
    for said in ("temperature 0.7 → unset", "forced_bos_token_id 7", "eos_token_id [1, 9] → 1"):
        assert any(said in note for note in result["notes"])
        assert any(said in message for message in told)
        assert said in card
    file = tmp_path / "merged" / "generation_config.json"
    assert json.loads(file.read_text(encoding="utf-8")).keys() == {
        "bos_token_id",
        "decoder_start_token_id",
        "do_sample",
        "eos_token_id",
        "max_new_tokens",
        "no_repeat_ngram_size",
        "num_beams",
        "pad_token_id",
        "repetition_penalty",
        "transformers_version",
    }
