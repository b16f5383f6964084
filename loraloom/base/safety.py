"""Checks that a model's folder has no code, hidden pickles, references to outside files or absurd sizes.

    config.json                   no code, no attention kernels, no other weights, nothing quantized
    tokenizer_config.json         no code
    model.safetensors.index.json  plain names of safetensors files in the same folder
    adapter_config.json           must not exist: transformers would load another base because of it

Everything is checked before transformers sees the folder, and for a hub name before its weights are
downloaded. As a second barrier, transformers is told never to run code from a model.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from transformers.utils import cached_file

from loraloom.architectures.families import family_of
from loraloom.errors import ModelError, Problem
from loraloom.text.message import Message, joined
from loraloom.text.units import size
from loraloom.text.visible import one_line, quoted

CONFIG, TOKENIZER_CONFIG = "config.json", "tokenizer_config.json"
# Suffixes that each index may name. Weights in .bin files are only read on request.
INDEXES = {
    "model.safetensors.index.json": (".safetensors",),
    "pytorch_model.bin.index.json": (".safetensors", ".bin"),
}
# A config has a few kilobytes; an index of a thousand shards a few megabytes.
MAX_JSON_BYTES = 64 * 2**20
# Beyond the size of any real model; `num_labels` alone makes transformers build a list of that length.
LARGEST_NUMBER = 10_000_000
# Written into configs by transformers itself, without any effect when read.
_HARMLESS_PRIVATE = {
    "_name_or_path",
    "_commit_hash",
    "_attn_implementation_autoset",
    "_num_labels",
    "_sliding_window_pattern",
}
_CODE = ("auto_map", "custom_pipelines", "trust_remote_code")
_KERNELS = ("attn_implementation", "experts_implementation", "use_kernels", "kernel_config")
_OWN_KERNELS = (None, False, "eager", "sdpa")
# Allows half a byte per weight, tied embeddings that an estimate counts twice, and a margin.
_WEIGHTS_PER_BYTE = 4
_SOON_BUILT = 10_000_000


def read_config(path: str, name: str) -> dict[str, Any]:
    """Read config.json, and refuse a folder whose files fail the checks of this module.

    Args:
        path: a folder, or a hub name.
        name: name of the model in messages.

    Raises:
        ModelError: config.json cannot be found, or a file cannot be read or fails a check.
    """
    try:
        file = cached_file(path, CONFIG)
    except (OSError, ValueError) as error:
        raise ModelError(
            Message("its config cannot be loaded"),
            where=name,
            found=describe_source(error),
            fix=Message("Without a connection to the hub, give a local folder or `starter`."),
        ) from None
    values = _read_object(Path(str(file)), name)
    tokenizer = read_beside(path, TOKENIZER_CONFIG, name)
    problems = [
        *_config_problems(values, name),
        *_code_problems(tokenizer, TOKENIZER_CONFIG, name),
        *_tokenizer_problems(tokenizer, name),
        *(problem for index in INDEXES for problem in _index_problems(path, index, name)),
    ]
    if file_beside(path, "adapter_config.json") is not None:
        problems.append(
            Problem(
                Message(
                    "is the folder of an adapter: it contains an adapter_config.json, so "
                    "transformers would load the base of that adapter instead"
                ),
                where=name,
                fix=Message(
                    "Give the base itself, and the adapter as lora.init_adapter; or merge the two first."
                ),
            )
        )
    if problems:
        raise ModelError(problems)
    return values


def check_sizes(num_weights: int, path: str, name: str) -> None:
    """Refuse a config that describes a far larger model than the files contain.

    transformers builds the model from the config before it reads the files.

    Args:
        num_weights: estimated number of weights that the config describes.

    Raises:
        ModelError: the config describes far more weights than the files have bytes.
    """
    files = [*Path(path).glob("*.safetensors"), *Path(path).glob("*.bin")] if Path(path).is_dir() else []
    num_bytes = sum(file.stat().st_size for file in files if file.is_file())
    if num_bytes and num_weights > max(_SOON_BUILT, _WEIGHTS_PER_BYTE * num_bytes):
        raise ModelError(
            Message("its config describes a far larger model than its files contain"),
            where=name,
            found=Message(
                "about {num_weights:,.0f} M weights in {num_bytes}",
                num_weights=num_weights / 1000000.0,
                num_bytes=size(num_bytes),
            ),
            fix=Message("The config belongs to another model, or the folder is incomplete; copy it again."),
        )


def describe_source(error: BaseException) -> str:
    """Describe an exception on one line, by its type and its message."""
    text = one_line(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def file_beside(path: str, file: str) -> Path | None:
    """Return the path of a file in a model's folder or on the hub; None if it does not exist."""
    found = cached_file(
        path, file, _raise_exceptions_for_missing_entries=False, _raise_exceptions_for_connection_errors=False
    )
    return None if found is None else Path(str(found))


def read_beside(path: str, file: str, name: str) -> dict[str, Any]:
    """Read a JSON file in a model's folder or on the hub; {} if it does not exist.

    Raises:
        ModelError: the file cannot be read, or is not a JSON object.
    """
    found = file_beside(path, file)
    return {} if found is None else _read_object(found, name)


def _read_object(file: Path, name: str) -> dict[str, Any]:
    """Read a JSON object from a file; error messages do not quote the file."""
    try:
        if file.stat().st_size > MAX_JSON_BYTES:
            raise ModelError(Message("{name} is too large", name=file.name), where=name)
        values = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or getattr(error, "msg", None) or type(error).__name__
        raise ModelError(Message("{name} cannot be read", name=file.name), where=name, found=reason) from None
    if not isinstance(values, dict):
        raise ModelError(Message("{name} is not a JSON object", name=file.name), where=name)
    return values


def _config_problems(values: Mapping[str, object], name: str) -> Iterator[Problem]:
    configs = list(_configs(values))
    yield from _code_problems({key: own[key] for own in configs for key in own if own[key]}, CONFIG, name)
    private = [key for own in configs for key in own if key.startswith("_") and key not in _HARMLESS_PRIVATE]
    kernels = [key for own in configs for key in _KERNELS if own.get(key) not in _OWN_KERNELS]
    for key in dict.fromkeys([*private, *kernels]):
        yield Problem(
            Message(
                "its config sets {key}, which lets transformers load code from elsewhere", key=quoted(key)
            ),
            where=name,
            fix=Message("Remove it from {config}.", config=CONFIG),
        )
    if "transformers_weights" in values:
        yield Problem(
            Message("its config names weights (transformers_weights) other than those of the folder"),
            where=name,
            fix=Message(
                "Remove the entry from {config}, and rename the file with the weights to model.safetensors.",
                config=CONFIG,
            ),
        )
    if values.get("quantization_config") is not None:
        yield Problem(
            Message("its weights are quantized (quantization_config), which LoRALoom does not support"),
            where=name,
            fix=Message("Use the same model in float32 or bfloat16."),
        )
    family = family_of(values.get("model_type"))
    for key in family.size_keys if family else ():
        value = _at(values, key)
        is_size = isinstance(value, int) and not isinstance(value, bool) and value > 0
        if not is_size and not (value is None and family and key in family.optional_sizes):
            yield Problem(
                Message("its config's `{key}` is not a valid size", key=key),
                where=name,
                allowed=Message("a whole number above 0"),
            )
    large = [key for key, value in _numbers(values) if abs(value) > LARGEST_NUMBER]
    for key in large:
        yield Problem(
            Message("its config's {key} is larger than in any real model", key=quoted(key)),
            where=name,
            allowed=Message("at most {largest_number:,}", largest_number=LARGEST_NUMBER),
        )


def _configs(values: Mapping[str, object]) -> Iterator[Mapping[str, object]]:
    """Yield a config and all configs nested in it, such as those of an encoder or a vision tower."""
    yield values
    for value in values.values():
        if isinstance(value, dict):
            yield from _configs(value)


def _at(values: Mapping[str, object], key: str) -> object:
    """Return the value at a key such as `encoder.hidden_size`; 1 if the config does not set it."""
    value: object = values
    for part in key.split("."):
        value = value.get(part, 1) if isinstance(value, dict) else value
    return value


def _numbers(values: Mapping[str, object]) -> Iterator[tuple[str, float]]:
    for config in _configs(values):
        for key, value in config.items():
            if isinstance(value, int | float):
                yield key, value


def _code_problems(values: Mapping[str, object], file: str, name: str) -> Iterator[Problem]:
    what = Message("its config") if file == CONFIG else file
    for key in _CODE:
        if values.get(key):
            yield Problem(
                Message(
                    "{what} names code to run ({key}), but LoRALoom never runs a model's own code",
                    what=what,
                    key=key,
                ),
                where=name,
                allowed=Message("the architectures and tokenizers that transformers ships"),
            )


def _tokenizer_problems(values: Mapping[str, object], name: str) -> Iterator[Problem]:
    kind = values.get("tokenizer_class")
    if kind is not None and not (isinstance(kind, str) and kind.isidentifier()):
        yield Problem(
            Message(
                "{tokenizer_config} has a `tokenizer_class` that is not the name of a class",
                tokenizer_config=TOKENIZER_CONFIG,
            ),
            where=name,
            allowed=Message("a tokenizer that transformers ships, such as T5Tokenizer"),
        )
    listed = values.get("fast_tokenizer_files") or []
    if not isinstance(listed, list) or not all(map(is_plain_name, listed)):
        yield _outside(TOKENIZER_CONFIG, name)


def _index_problems(path: str, index: str, name: str) -> Iterator[Problem]:
    file = file_beside(path, index)
    if file is None:
        return
    shards = _read_object(file, name).get("weight_map")
    if not isinstance(shards, dict) or not shards:
        yield Problem(
            Message("{index} has no `weight_map`", index=index),
            where=name,
            fix=Message("Copy the folder again."),
        )
    elif not all(map(is_plain_name, shards.values())):
        yield _outside(index, name)
    elif not all(shard.endswith(INDEXES[index]) for shard in shards.values()):
        yield Problem(
            Message("{index} names files that are not weights of the expected kind", index=index),
            where=name,
            allowed=Message("files ending in {indexes}", indexes=joined(" or ", INDEXES[index])),
        )


def _outside(file: str, name: str) -> Problem:
    return Problem(
        Message("{file} names files outside the model's folder", file=file),
        where=name,
        allowed=Message("plain names of files in the same folder"),
    )


def is_plain_name(value: Any) -> bool:
    """Return whether a value is the plain name of a file, not a path."""
    return (
        isinstance(value, str) and re.fullmatch(r"[\w.\-]+", value) is not None and not value.startswith(".")
    )
