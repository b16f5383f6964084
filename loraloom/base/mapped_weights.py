"""A base whose weights are memory-mapped from its safetensors files; the kernel can drop them at any time.

Such a base cannot exhaust the memory, whatever its size. The files are mapped here, as read-only, because
transformers would load them through safetensors, which maps them as writable: Linux refuses such a mapping of
a file larger than memory and swap together (seen with safetensors 0.8.0: "Cannot allocate memory").
"""

from __future__ import annotations

import json
import math
import mmap
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers import AutoConfig, AutoModelForSeq2SeqLM, PreTrainedModel
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME

from loraloom.architectures.family import Family
from loraloom.base.generation_file import check_generation, quiet_transformers
from loraloom.base.safety import describe_source, file_beside
from loraloom.base.weights import check_complete
from loraloom.errors import ModelError
from loraloom.run.documents.choice import Choice
from loraloom.text.message import Message

# Value of `dtype` in `load_base`, for a base that is loaded as described above.
STORED = "stored"
# safetensors lays out the tensors of a file in this order of dtypes, the last first.
DTYPES = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "I16": torch.int16,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I32": torch.int32,
    "F32": torch.float32,
    "F64": torch.float64,
    "I64": torch.int64,
}
FLOATS = {"float16", "bfloat16", "float32"}


class StoredTensor(NamedTuple):
    """A tensor in a safetensors file.

    Args:
        dtype: the name of its dtype in safetensors.
        shape: its sizes.
        start: the position of its first byte in the file.
    """

    dtype: str
    shape: tuple[int, ...]
    start: int


def weight_files(path: str) -> list[Path]:
    """Return the safetensors files of a folder or hub name, ordered by name; [] if it has none."""
    index = file_beside(path, SAFE_WEIGHTS_INDEX_NAME)
    names = [SAFE_WEIGHTS_NAME]
    if file_beside(path, SAFE_WEIGHTS_NAME) is None and index is not None:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    files = (file_beside(path, name) for name in names)
    return [file for file in files if file is not None]


def stored_tensors(file: Path) -> dict[str, StoredTensor]:
    """Return the tensors that the header of a safetensors file lists, by name.

    Raises:
        OSError, SafetensorError: the file cannot be read, or is damaged.
    """
    with safe_open(file, framework="np"):  # checks that positions and shapes match the file's bytes
        pass
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        header = json.loads(opened.read(length))
    return {
        key: StoredTensor(each["dtype"], tuple(each["shape"]), 8 + length + each["data_offsets"][0])
        for key, each in header.items()
        if key != "__metadata__"
    }


def count_weights(files: list[Path]) -> Counter[str]:
    """Count the weights in some files by dtype, using torch's names; integer tensors are left out.

    A dtype that this module cannot read, such as float8, keeps its name from the file.
    """
    found: Counter[str] = Counter()
    for file in files:
        for tensor in stored_tensors(file).values():
            dtype = DTYPES.get(tensor.dtype)
            if dtype is None:
                found[tensor.dtype] += math.prod(tensor.shape)
            elif dtype.is_floating_point:
                found[str(dtype).removeprefix("torch.")] += math.prod(tensor.shape)
    return found


def choose_stored_dtype(path: str, name: str) -> Choice:
    """Choose the one dtype that all weights in a base's files have.

    Raises:
        ModelError: the files are not safetensors, are damaged, or have weights of several dtypes or of an
            unsupported one.
    """
    files = weight_files(path)
    if not files:
        raise ModelError(
            Message("has no safetensors files, so it can only be loaded into memory as a whole"),
            where=name,
            fix=Message("Convert it to safetensors on a machine with enough memory."),
        )
    found = _read(lambda: count_weights(files), name)
    if len(found) != 1 or not found.keys() <= FLOATS:
        raise ModelError(
            Message("its files have weights of several dtypes, or of an unsupported dtype"),
            where=name,
            found=", ".join(f"{dtype} ({number:,})" for dtype, number in found.most_common()),
            allowed=Message("one of {dtypes} for all weights", dtypes=", ".join(sorted(FLOATS))),
            fix=Message("Save it in one dtype on a machine with enough memory."),
        )
    return Choice(next(iter(found)), Message("as in the base's files"))


def mapped_tensors(files: list[Path]) -> Iterator[tuple[str, Tensor]]:
    """Yield the name and the values of each tensor in some files; the values are read-only."""
    for file in files:
        with file.open("rb") as opened:
            pages = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
        for key, stored in stored_tensors(file).items():
            dtype, number = DTYPES[stored.dtype], math.prod(stored.shape)
            if number == 0:
                yield key, torch.empty(stored.shape, dtype=dtype)
                continue
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "The given buffer is not writable")
                flat = torch.frombuffer(pages, dtype=dtype, count=number, offset=stored.start)
            yield key, flat.view(stored.shape)


def load_mapped_weights(path: str, name: str, dtype: torch.dtype, family: Family) -> PreTrainedModel:
    """Load a model whose weights are mapped from its files; changing a weight in place crashes the process.

    Args:
        path: folder or hub name.
        name: name of the base, for messages.
        dtype: dtype of the files.
        family: family of the model.

    Raises:
        ModelError: the weights cannot be loaded, or some are missing.
    """
    tensors = _read(lambda: dict(mapped_tensors(weight_files(path))), name)
    try:
        with quiet_transformers():
            config = AutoConfig.from_pretrained(path, trust_remote_code=False)
            model_class: Any = AutoModelForSeq2SeqLM._model_mapping[type(config)]
            model, report = model_class.from_pretrained(
                None,
                config=config,
                state_dict=tensors,
                dtype=dtype,
                attn_implementation=family.attention,
                output_loading_info=True,
            )
    except Exception as error:  # RuntimeError, ValueError, KeyError: all mean unusable weights
        check_generation(path, name)
        raise ModelError(
            Message("its weights cannot be loaded"), where=name, found=describe_source(error)
        ) from None
    check_complete(report, name)
    model.config.name_or_path = path
    return model


def is_mapped(tensor: Tensor) -> bool:
    """Return whether a tensor of a mapped model is mapped from a file, and not computed during loading."""
    return not tensor.untyped_storage().resizable()


def _read(reading: Any, name: str) -> Any:
    """Call a function that reads files; its errors become a `ModelError` that names the base.

    Raises:
        ModelError: the files cannot be read.
    """
    try:
        return reading()
    except (OSError, SafetensorError, KeyError) as error:
        raise ModelError(
            Message("its weights cannot be loaded"), where=name, found=describe_source(error)
        ) from None
