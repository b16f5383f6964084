"""Loading of a base's weights by transformers: none may be missing; pickles are read only if allowed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForSeq2SeqLM, PreTrainedModel

from loraloom.architectures.family import Family
from loraloom.base.generation_file import check_generation, quiet_transformers
from loraloom.base.safety import describe_source
from loraloom.errors import ModelError
from loraloom.text.message import Message


def only_pickles(name: str) -> ModelError:
    """Return the error for a base whose only weights are pickles, which were not allowed."""
    return ModelError(
        Message("has only .bin weights, which are pickles"),
        where=name,
        fix=Message("Set allow_bin_weights: true to load them weights-only, or convert them to safetensors."),
    )


def load_weights(
    path: str, name: str, dtype: torch.dtype | str, family: Family, allow_bin_weights: bool
) -> PreTrainedModel:
    """Load a model's weights.

    Args:
        path: folder or hub name.
        name: name of the base, for messages.
        dtype: dtype of the weights; `auto` for the dtype of the files, which are then mapped into memory.
        family: family of the model.
        allow_bin_weights: whether to load .bin weights (with `weights_only`) if there are no others.

    Raises:
        ModelError: the weights cannot be loaded, or some are missing.
    """
    try:
        with quiet_transformers():
            model, report = AutoModelForSeq2SeqLM.from_pretrained(
                path,
                dtype=dtype,
                use_safetensors=None if allow_bin_weights else True,
                weights_only=True,
                attn_implementation=family.attention,
                trust_remote_code=False,
                output_loading_info=True,
            )
    except Exception as error:  # OSError, SafetensorError, RuntimeError, ValueError: all mean bad weights
        only_bin = (
            Path(path).is_dir()
            and any(Path(path).glob("*.bin"))
            and not any(Path(path).glob("*.safetensors"))
        )
        if only_bin and not allow_bin_weights:
            raise only_pickles(name) from None
        check_generation(path, name)
        raise ModelError(
            Message("its weights cannot be loaded"), where=name, found=describe_source(error)
        ) from None
    check_complete(report, name)
    return model


def check_complete(report: Mapping[str, Any], name: str) -> None:
    """Refuse a model for which transformers did not find every weight.

    Args:
        report: the loading report of `from_pretrained`.
        name: name of the base.

    Raises:
        ModelError: weights are missing, or have the wrong shape.
    """
    missing = sorted(report["missing_keys"])
    if missing or report["mismatched_keys"]:
        wrong = missing or sorted(str(key) for key in report["mismatched_keys"])
        raise ModelError(
            (
                Message("{num_wrong} of its weights are missing", num_wrong=len(wrong))
                if missing
                else Message("{num_wrong} of its weights are of the wrong shape", num_wrong=len(wrong))
            ),
            where=name,
            found=", ".join(wrong[:5]),
            fix=Message(
                "transformers would initialize them at random. The folder is incomplete; copy it again."
            ),
        )
