"""A model that cannot be trained is refused with the sentence that fits it, before torch is imported."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from loraloom.base.supported_models import check_folder, check_supported
from loraloom.errors import ModelError


def complaint(values: dict[str, Any]) -> str:
    with pytest.raises(ModelError) as caught:
        check_supported(values, "base")
    return str(caught.value)


def model_folder(folder: Path, **values: Any) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(values), encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("model_type", "architecture", "called"),
    [
        ("led", "LEDForConditionalGeneration", "LED"),
        ("encoder-decoder", "EncoderDecoderModel", "EncoderDecoderModel"),
        ("newformer", "NewForConditionalGeneration", "NewForConditionalGeneration"),
    ],
)
def test_another_encoder_decoder_is_not_supported_yet(
    model_type: str, architecture: str, called: str
) -> None:
    text = complaint({"model_type": model_type, "architectures": [architecture], "is_encoder_decoder": True})
    assert f"{called} is an encoder-decoder that LoRALoom does not support yet" in text
    assert "t5, mt5, umt5" in text


@pytest.mark.parametrize(
    ("model_type", "architecture", "said"),
    [
        ("longt5", "LongT5ForConditionalGeneration", "LongT5 is an encoder-decoder that LoRALoom does not"),
        ("longt5", "LongT5ForConditionalGeneration", "yet: it attends within blocks of a row"),
        ("longt5", "LongT5ForConditionalGeneration", "Choose a T5 model, for example google/flan-t5-base"),
        ("switch_transformers", "SwitchTransformersForConditionalGeneration", "each token to an expert"),
        ("nllb-moe", "NllbMoeForConditionalGeneration", "Choose a model without experts"),
    ],
)
def test_why_a_known_one_is_not_supported_is_said(model_type: str, architecture: str, said: str) -> None:
    text = complaint({"model_type": model_type, "architectures": [architecture], "is_encoder_decoder": True})
    assert said in text


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (
            {"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"]},
            "Qwen3ForCausalLM is a causal (decoder-only) model, but LoRALoom trains encoder-decoders",
        ),
        (
            {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]},
            "GPT2LMHeadModel is a causal (decoder-only) model",
        ),
        (
            # BartForCausalLM is the decoder alone, but its family has an encoder.
            {"model_type": "bert", "architectures": ["BertForMaskedLM"]},
            "BertForMaskedLM is not an encoder-decoder",
        ),
        (
            {"model_type": "bart", "architectures": ["BartForSequenceClassification"]},
            "BartForSequenceClassification classifies texts",
        ),
        (
            {"model_type": "t5", "architectures": ["T5EncoderModel"], "is_encoder_decoder": True},
            "T5EncoderModel is an encoder without a decoder",
        ),
        (
            {
                "model_type": "whisper",
                "architectures": ["WhisperForConditionalGeneration"],
                "is_encoder_decoder": True,
            },
            "WhisperForConditionalGeneration reads audio, but LoRALoom trains models that read text",
        ),
        (
            {"model_type": "vision-encoder-decoder", "is_encoder_decoder": True},
            "vision-encoder-decoder reads images",
        ),
        ({"architectures": ["T5ForConditionalGeneration"]}, "has no model_type"),
    ],
)
def test_anything_else_is_refused_for_its_own_reason(values: dict[str, Any], said: str) -> None:
    text = complaint(values)
    assert said in text
    assert "google/flan-t5-base" in text  # the fix


@pytest.mark.parametrize("model_type", ["t5", "mt5", "umt5"])
def test_what_can_be_trained_passes(model_type: str, tmp_path: Path) -> None:
    check_supported({"model_type": model_type, "is_encoder_decoder": True}, "base")
    check_folder(str(model_folder(tmp_path / "base", model_type=model_type)))
    check_folder("starter")
    check_folder("google/flan-t5-base")  # a hub name is not looked up here


def test_folders_that_are_no_model(tmp_path: Path) -> None:
    def said(path: Path) -> str:
        with pytest.raises(ModelError) as caught:
            check_folder(str(path))
        return str(caught.value)

    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text('{"base_model_name_or_path": "google/mt5-small"}')
    assert "is the folder of a LoRA adapter for google/mt5-small, not of a model" in said(adapter)
    assert "lora.init_adapter" in said(adapter)
    (adapter / "adapter_config.json").write_text("[")
    assert "is the folder of a LoRA adapter, not of a model" in said(adapter)
    assert "there is no such folder" in said(tmp_path / "nowhere")
    model_folder(tmp_path / "inner", model_type="t5")
    assert "Name one of its subfolders that contains a model: inner." in said(tmp_path)
    broken = model_folder(tmp_path / "broken")
    (broken / "config.json").write_text("{")
    assert "is not a JSON object" in said(broken)


def test_no_heavy_package_is_imported_for_it() -> None:
    code = (
        "import sys; from loraloom.base.supported_models import check_folder; print('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
