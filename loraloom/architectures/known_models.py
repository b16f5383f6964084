"""What is known about a model from its name, class or config.json, without torch or its weights."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

_T5_ATTENTION = frozenset("qkvo")
_PLAIN = _T5_ATTENTION | {"wi", "wo"}
_GATED = _T5_ATTENTION | {"wi_0", "wi_1", "wo"}
_BART = frozenset({"q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"})
_GEMMA = frozenset({"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"})


@dataclass(frozen=True)
class KnownModel:
    """What is known about a kind of encoder-decoder.

    Args:
        title: its name in messages.
        linears: names of the linear layers that LoRA can adapt, except the output head.
        is_t5: whether it belongs to the T5 family, which overflows in float16.
        languages: an example of its tokenizer's language codes; "" if it has none.
        peft_targets: what PEFT adapts if `target_modules` is not given; empty if PEFT then fails.
        is_gap_filler: whether it was only trained to fill gaps, and cannot follow instructions.
        divides_by_tokens: whether its loss is divided by the number of tokens that the Trainer counts over
            the micro-batches of a step; other models ignore that number (transformers 5.23).
        calls_input_embeddings: whether a pass calls the module that `get_input_embeddings` returns, to whose
            output the Trainer can add noise; T5 and BART return `shared`, which no pass calls
            (transformers 5.24).
        starts_with_end: whether the decoder starts with the same token that ends answers.
    """

    title: str
    linears: frozenset[str]
    is_t5: bool = False
    languages: str = ""
    peft_targets: tuple[str, ...] = ()
    is_gap_filler: bool = False
    divides_by_tokens: bool = False
    calls_input_embeddings: bool = False
    starts_with_end: bool = False


_QV = ("q", "v")
_T5_1 = KnownModel("T5", _PLAIN, is_t5=True, peft_targets=_QV)
_T5_ANY = KnownModel("T5", _PLAIN | _GATED, is_t5=True, peft_targets=_QV)
_T5_GATED = KnownModel("T5 1.1", _GATED, is_t5=True, peft_targets=_QV)
_T5_UNTUNED = KnownModel("T5 1.1", _GATED, is_t5=True, peft_targets=_QV, is_gap_filler=True)
_FLAN = KnownModel("flan-T5", _GATED, is_t5=True, peft_targets=_QV)
_MT5 = KnownModel("mT5", _GATED, is_t5=True, peft_targets=_QV, is_gap_filler=True)
_MT0 = KnownModel("mt0", _GATED, is_t5=True, peft_targets=_QV)
_BYT5 = KnownModel("ByT5", _GATED, is_t5=True, peft_targets=_QV, is_gap_filler=True)
_UMT5 = KnownModel("UMT5", _GATED, is_t5=True, is_gap_filler=True)
_T5GEMMA = KnownModel("T5Gemma", _GEMMA, divides_by_tokens=True, calls_input_embeddings=True)
_BART_ = KnownModel("BART", _BART, peft_targets=("q_proj", "v_proj"), starts_with_end=True)
_MBART = KnownModel("mBART", _BART, languages="de_DE")
_NLLB = KnownModel("NLLB", _BART, languages="deu_Latn", starts_with_end=True)
_M2M100 = KnownModel("M2M100", _BART, languages="de", starts_with_end=True)
_MARIAN = KnownModel("Marian", _BART, calls_input_embeddings=True)
_PEGASUS = KnownModel("Pegasus", _BART)

# Patterns of names in lower case; the first that matches counts.
_NAMES: tuple[tuple[str, KnownModel], ...] = (
    (r"t5[-_]?gemma", _T5GEMMA),
    (r"umt5", _UMT5),
    (r"byt5", _BYT5),
    (r"mt0|aya-101", _MT0),
    (r"mt5", _MT5),
    (r"flan", _FLAN),
    (r"madlad|t0pp|t0_|ul2", _T5_GATED),
    (r"t5-v1[_.]1|t5-.*lm-adapt", _T5_UNTUNED),
    (r"(^|/)t5-(small|base|large|3b|11b)$", _T5_1),
    (r"t5", _T5_ANY),
    (r"mbart", _MBART),
    (r"nllb", _NLLB),
    (r"m2m", _M2M100),
    (r"opus-mt|opus-tatoeba|marian", _MARIAN),
    (r"pegasus", _PEGASUS),
    (r"bart", _BART_),
)
_TYPES: dict[str, KnownModel] = {
    "t5": _T5_ANY,
    "mt5": _MT5,
    "umt5": _UMT5,
    "t5gemma": _T5GEMMA,
    "t5gemma2": _T5GEMMA,
    "bart": _BART_,
    "mbart": _MBART,
    "m2m_100": _M2M100,
    "marian": _MARIAN,
    "pegasus": _PEGASUS,
}


# Classes of a single family -> a name that identifies this family.
_CLASSES = {
    "T5ForConditionalGeneration": "t5",
    "MT5ForConditionalGeneration": "mt5",
    "UMT5ForConditionalGeneration": "umt5",
    "BartForConditionalGeneration": "bart",
    "MBartForConditionalGeneration": "mbart",
    "M2M100ForConditionalGeneration": "m2m100",
    "MarianMTModel": "opus-mt",
    "PegasusForConditionalGeneration": "pegasus",
    "T5GemmaForConditionalGeneration": "t5gemma",
}


def name_of_class(name: str) -> str:
    """Return the name by which `known_model` recognizes a transformers class; "" if the class is unknown."""
    return _CLASSES.get(name, "")


def known_model(name: str, folder: Path | None = None) -> KnownModel | None:
    """Return what is known about a model; None if nothing is.

    Args:
        name: a hub name or a path, as written in the user's script.
        folder: the script's folder, to which a path may be relative.
    """
    config = _config(name, folder)
    kind = config.get("model_type")
    if kind == "t5":
        projection = str(config.get("feed_forward_proj", "relu"))
        return _T5_GATED if projection.startswith("gated") else _T5_1
    if isinstance(kind, str) and kind in _TYPES:
        return _TYPES[kind]
    last = "/".join(name.lower().rstrip("/").split("/")[-2:])
    return next((model for pattern, model in _NAMES if re.search(pattern, last)), None)


def _config(name: str, folder: Path | None) -> dict[str, object]:
    for path in (Path(name), (folder or Path()) / name):
        try:
            found = json.loads((path / "config.json").read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            continue
        if isinstance(found, dict):
            return found
    return {}


def with_gated_names(names: list[str], linears: frozenset[str]) -> list[str]:
    """Return target names with `wi_0` and `wi_1` in place of `wi` if the feed-forward is gated."""
    if "wi" not in names or "wi" in linears or "wi_0" not in linears:
        return names
    place = names.index("wi")
    return [*names[:place], "wi_0", "wi_1", *names[place + 1 :]]
