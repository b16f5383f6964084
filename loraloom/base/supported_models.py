"""Whether LoRALoom can train a model, judging by its folder, without transformers.

Other models are refused with a specific reason, for example that an adapter is not a model, that a causal
model has no encoder, or that a family is not supported yet.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from loraloom.architectures.families import FAMILIES
from loraloom.errors import ModelError
from loraloom.text.hub_name import looks_local
from loraloom.text.message import Message, marked

STARTER = "starter"
CONFIG, ADAPTER_CONFIG = "config.json", "adapter_config.json"
# Usual names of model types that config.json names differently.
_CALLED = {
    "bigbird_pegasus": "BigBird-Pegasus",
    "blenderbot": "Blenderbot",
    "blenderbot-small": "Blenderbot",
    "fsmt": "FSMT",
    "led": "LED",
    "longt5": "LongT5",
    "mvp": "MVP",
    "nllb-moe": "NLLB-MoE",
    "pegasus_x": "Pegasus-X",
    "plbart": "PLBart",
    "prophetnet": "ProphetNet",
    "switch_transformers": "SwitchTransformers",
}
# Why some model types are not supported, and what to use instead.
_EXPERTS = (
    Message("routes each token to an expert, whose linears cannot tell which example the token is from"),
    Message("Choose a model without experts, for example google/flan-t5-base."),
)
_WHY_NOT = {
    "longt5": (
        Message(
            "attends within blocks of a row, where LoRALoom cannot yet keep examples apart or predict memory"
        ),
        Message(
            "Choose a T5 model, for example google/flan-t5-base: its positions are relative, so it reads "
            "long texts too."
        ),
    ),
    "nllb-moe": _EXPERTS,
    "switch_transformers": _EXPERTS,
}
_READS_AUDIO = frozenset(
    {
        "canary",
        "dia",
        "moonshine",
        "moonshine_streaming",
        "pop2piano",
        "seamless_m4t",
        "seamless_m4t_v2",
        "speech-encoder-decoder",
        "speech_to_text",
        "speecht5",
        "whisper",
    }
)
_READS_IMAGES = frozenset({"blip", "blip-2", "git", "pix2struct", "trocr", "udop", "vision-encoder-decoder"})
# Model classes of supported families with a head that generates no answers.
_OTHER_TASKS = {
    "ForSequenceClassification": Message("classifies texts"),
    "ForTokenClassification": Message("classifies tokens"),
    "ForQuestionAnswering": Message("marks spans of a text"),
}
_T5_LIKE = ("t5", "mt5", "umt5")
_LARGEST_WIDTH = 2**20  # beyond reason; a rule for widths would overflow
_NAME = re.compile(r"[A-Za-z][\w.-]{0,79}")  # model types that may appear in a message
_INSTEAD = Message("Choose an encoder-decoder, for example google/flan-t5-base.")


def locate(name: str) -> str:
    """Locate a model's files: return the path of a folder, or the hub name unchanged.

    Args:
        name: a folder or a hub name; `starter` is handled by the caller.

    Raises:
        ModelError: the name is neither the folder of a model nor a possible hub name.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        if not (path / CONFIG).is_file():
            raise ModelError(_what_it_is(path), where=name, fix=_what_to_name(path))
        return str(path)
    if path.exists():
        raise ModelError(Message("a model is a folder, but this is a file"), where=name)
    if looks_local(name):
        raise ModelError(
            Message("there is no such folder"),
            where=name,
            found=Message("nothing at {absolute}", absolute=path.absolute()),
            fix=Message("Check model_name_or_path; a hub name has the form owner/name."),
        )
    return name


def check_supported(values: Mapping[str, Any], name: str) -> None:
    """Refuse a config of an unsupported architecture, and say why it is unsupported.

    Args:
        values: values of config.json.
        name: name of the model in messages.

    Raises:
        ModelError: LoRALoom cannot train the model.
    """
    model_type = values.get("model_type")
    listed = values.get("architectures")
    named = [str(entry) for entry in listed[:3]] if isinstance(listed, list) else []
    architectures = [name for name in named if _NAME.fullmatch(name)]
    what, fix = _reason(model_type, architectures, values.get("is_encoder_decoder") is True)
    if what:
        raise ModelError(
            what,
            where=name,
            found=", ".join(architectures)
            or Message("model_type {model_type}", model_type=repr(str(model_type)[:80])),
            allowed=Message(
                "encoder-decoder models of the families {families}", families=", ".join(FAMILIES)
            ),
            fix=fix,
        )


def check_folder(name: str) -> None:
    """Refuse a folder at once if it is not a model that can be trained; hub names are not looked up.

    Raises:
        ModelError: the folder does not exist, or does not contain such a model.
    """
    if name == STARTER:
        return
    parent = Path(name).parent
    if name.count("/") == 1 and parent.is_dir() and not Path(name).exists():
        raise ModelError(
            Message("there is no such folder"),
            where=name,
            found=Message("the folder {parent}, but no {name} in it", parent=parent, name=Path(name).name),
            fix=Message(
                "Check the name; for a hub model of `{parent}`, run this in a directory that has no folder "
                "of that name.",
                parent=parent,
            ),
        )
    config = Path(locate(name)) / CONFIG
    if config.is_file():
        try:
            values = json.loads(config.read_bytes())
        except (OSError, ValueError, RecursionError):
            values = None
        if not isinstance(values, dict):
            raise ModelError(
                Message("its {config} is not a JSON object", config=CONFIG),
                where=name,
                fix=Message("Copy the folder again."),
            )
        check_supported(values, name)


def t5_width(name: str) -> int | None:
    """Return d_model from the config of a T5-like model in a local folder; None for anything else."""
    try:
        values = json.loads((Path(name) / CONFIG).read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(values, dict) or values.get("model_type") not in _T5_LIKE:
        return None
    width = values.get("d_model")
    return width if type(width) is int and 0 < width <= _LARGEST_WIDTH else None


def _reason(model_type: Any, architectures: list[str], is_encoder_decoder: bool) -> tuple[str, str]:
    """Return why a model cannot be trained, and what to do instead; two empty strings if it can."""
    if any(entry.endswith("EncoderModel") for entry in architectures):
        return Message(
            "{architectures} is an encoder without a decoder, which cannot generate answers",
            architectures=architectures[0],
        ), _INSTEAD
    if not isinstance(model_type, str):
        return Message(
            "its {config} has no model_type, so its architecture is unknown", config=CONFIG
        ), _INSTEAD
    if other := next((entry for entry in architectures if entry.endswith(tuple(_OTHER_TASKS))), None):
        task = next(task for end, task in _OTHER_TASKS.items() if other.endswith(end))
        return Message(
            "{other} {task}, but LoRALoom trains models that generate answers", other=other, task=task
        ), _INSTEAD
    if model_type in FAMILIES:
        return "", ""
    plain = model_type if _NAME.fullmatch(model_type) else Message("its architecture")
    called = _CALLED.get(model_type) or (architectures[0] if architectures else plain)
    if model_type in _READS_AUDIO | _READS_IMAGES:
        if model_type in _READS_AUDIO:
            template = marked("{called} reads audio, but LoRALoom trains models that read text")
        else:
            template = marked("{called} reads images, but LoRALoom trains models that read text")
        return Message(template, called=called), _INSTEAD
    if model_type in _WHY_NOT:
        why, fix = _WHY_NOT[model_type]
        return Message(
            "{called} is an encoder-decoder that LoRALoom does not support yet: it {why}",
            called=called,
            why=why,
        ), fix
    if is_encoder_decoder or model_type in _CALLED:
        return Message("{called} is an encoder-decoder that LoRALoom does not support yet", called=called), ""
    if any("CausalLM" in entry or entry.endswith("LMHeadModel") for entry in architectures):
        return Message(
            "{called} is a causal (decoder-only) model, but LoRALoom trains encoder-decoders", called=called
        ), _INSTEAD
    return Message("{called} is not an encoder-decoder", called=called), _INSTEAD


def _what_it_is(path: Path) -> str:
    """Say whether a folder without config.json contains an adapter, and for which base."""
    if not (path / ADAPTER_CONFIG).is_file():
        return Message("the folder contains no {config}", config=CONFIG)
    base = _base_of(path)
    return (
        Message("is the folder of a LoRA adapter for {base}, not of a model", base=base)
        if base
        else Message("is the folder of a LoRA adapter, not of a model")
    )


def _what_to_name(path: Path) -> str:
    """Suggest which setting or folder to use instead of a folder without config.json."""
    if (path / ADAPTER_CONFIG).is_file():
        return Message(
            "Set model_name_or_path to the base, and lora.init_adapter to this folder to train it further."
        )
    inside = sorted(entry.parent.name for entry in path.glob(f"*/{CONFIG}"))
    if inside:
        return Message(
            "Name one of its subfolders that contains a model: {inside}.", inside=", ".join(inside[:5])
        )
    return Message(
        "Give a folder in transformers' layout, with {config}, the weights and the tokenizer.", config=CONFIG
    )


def _base_of(path: Path) -> str:
    """Return the base that an adapter names; "" if there is none, or if it is not short printable text."""
    try:
        base = json.loads((path / ADAPTER_CONFIG).read_bytes())["base_model_name_or_path"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return ""
    return base if isinstance(base, str) and base.isprintable() and len(base) <= 200 else ""
