"""Tensors of a GGUF file: their names and stored types, and writing them one at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from loraloom.errors import ModelError
from loraloom.text.message import Message

if TYPE_CHECKING:
    import gguf

# Values of `--quantization` -> GGML's types.
STORED = {"float32": "F32", "bfloat16": "BF16", "int8": "Q8_0"}
FILE_TYPES = {"float32": "ALL_F32", "bfloat16": "MOSTLY_BF16", "int8": "MOSTLY_Q8_0"}
# Rows that are converted at a time; all of an embedding of 250,112 × 1,024 would take 1 GB several times.
ROWS_AT_ONCE = 8192
# Q8_0 has a scale for each 32 weights of a row.
BLOCK = 32
# Added to attention scores, so never rounded, as in llama.cpp's own converter of quantized files.
POSITION_BIAS = "attn_rel_b"


@dataclass(frozen=True)
class GgufTensor:
    """A tensor to write.

    Args:
        name: name in the GGUF file.
        data: [rows, columns] or [columns].
        stored: name of the GGML type, such as `Q8_0`.
    """

    name: str
    data: Tensor
    stored: str

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the tensor."""
        return tuple(self.data.shape)


def stored_type(name: str, shape: tuple[int, ...], wanted: str) -> str:
    """Return the GGML type that a tensor is stored in.

    Args:
        name: name in the GGUF file.
        shape: shape of the tensor.
        wanted: the GGML type requested for matrices.
    """
    if len(shape) == 1 or POSITION_BIAS in name or (wanted == "Q8_0" and shape[-1] % BLOCK):
        return "F32"
    return wanted


def tensor_name(names: Any, key: str) -> str | None:
    """Return a parameter's name in a GGUF file; None if llama.cpp has no name for it.

    Args:
        names: result of `gguf.get_tensor_name_map`.
        key: the parameter's name in transformers, which ends in `.weight`.
    """
    return names.get_name(key, try_suffixes=(".weight",))  # type: ignore[no-any-return]


def write_file(writer: gguf.GGUFWriter, file: Path, tensors: list[GgufTensor]) -> dict[str, int]:
    """Write metadata and tensors, converting one tensor at a time to save memory.

    Args:
        writer: the writer, with all metadata added.
        file: file to create.
        tensors: the tensors, in the order of the file.

    Returns:
        The offset of each tensor in the file, in bytes, by its name.
    """
    import gguf

    for tensor in tensors:
        kind = gguf.GGMLQuantizationType[tensor.stored]
        shape = (
            gguf.quant_shape_to_byte_shape(tensor.shape, kind) if tensor.stored == "Q8_0" else tensor.shape
        )
        block, type_size = gguf.GGML_QUANT_SIZES[kind]
        num_bytes = int(np.prod(tensor.shape)) // block * type_size
        dtype = np.dtype(np.uint8 if tensor.stored == "Q8_0" else np.float32)
        writer.add_tensor_info(tensor.name, shape, dtype, num_bytes, raw_dtype=kind)
    writer.write_header_to_file(file)
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    assert writer.fout is not None
    opened = writer.fout[0]
    starts: dict[str, int] = {}
    for tensor in tensors:
        starts[tensor.name] = -(-opened.tell() // writer.data_alignment) * writer.data_alignment
        writer.write_tensor_data(_converted(tensor.data, kind=tensor.stored))
    writer.close()
    return starts


def _converted(tensor: Tensor, kind: str) -> np.ndarray[Any, Any]:
    import gguf

    if kind == "F32":
        return tensor.float().numpy()
    parts = [
        gguf.quants.quantize(part.float().numpy(), gguf.GGMLQuantizationType[kind])
        for part in tensor.split(ROWS_AT_ONCE)
    ]
    return np.concatenate(parts) if len(parts) > 1 else parts[0]


def check_file(file: Path, tensors: list[GgufTensor], starts: Mapping[str, int]) -> None:
    """Read the tensors of a file back and compare each with its source.

    `gguf`'s reader would take a minute for the metadata of a vocabulary of 250,112 tokens, so the positions
    come from the writer; the tests read whole files with that reader.

    Args:
        file: the written file.
        tensors: the tensors that were written.
        starts: as returned by `write_file`.

    Raises:
        ModelError: a tensor differs from its source by more than its type's rounding.
    """
    content = np.memmap(file, dtype=np.uint8, mode="r")
    for tensor in tensors:
        if not _is_equal(content[starts[tensor.name] :], tensor):
            raise ModelError(
                Message("a tensor was written incorrectly"),
                where=tensor.name,
                fix=Message("Check the disk. Nothing was kept."),
            )


def _is_equal(content: np.ndarray[Any, Any], tensor: GgufTensor) -> bool:
    """Compare a tensor with the bytes of a file: F32 and BF16 exactly, Q8_0 within about half a step."""
    import gguf

    kind = gguf.GGMLQuantizationType[tensor.stored]
    block, type_size = gguf.GGML_QUANT_SIZES[kind]
    rows = tensor.data.reshape(-1, tensor.shape[-1])
    row_bytes = tensor.shape[-1] // block * type_size
    for start in range(0, len(rows), ROWS_AT_ONCE):
        part = rows[start : start + ROWS_AT_ONCE].float()
        raw = content[start * row_bytes : (start + len(part)) * row_bytes].reshape(len(part), row_bytes)
        if not _is_within(torch.from_numpy(gguf.quants.dequantize(np.array(raw), kind)), part, tensor.stored):
            return False
    return True


def _is_within(read: Tensor, wanted: Tensor, stored: str) -> bool:
    if read.shape != wanted.shape:
        return False
    if stored == "BF16":
        return torch.equal(read, wanted.to(torch.bfloat16).float())
    if stored == "F32":
        return torch.equal(read, wanted)
    blocks = wanted.view(len(wanted), -1, BLOCK)
    steps = blocks.abs().amax(-1, keepdim=True) / 127
    # Half a step, and the error that the scale's float16 adds for the largest weight.
    return bool(((read.view_as(blocks) - blocks).abs() <= 0.57 * steps + 1e-7).all())


def model_tensors(model: PreTrainedModel) -> Iterator[tuple[str, Tensor]]:
    """Yield the name and data of every parameter; a parameter that modules share is yielded only once."""
    for name, parameter in model.named_parameters():  # skips a tensor that it yielded under another name
        yield name, parameter.detach()


def lora_names(names: Any, tensors: Mapping[str, Tensor]) -> tuple[dict[str, str], list[str]]:
    """Map adapted modules to their names in a GGUF file; list the modules that llama.cpp has no name for.

    Args:
        names: result of `gguf.get_tensor_name_map`.
        tensors: `{"<module>.lora_A": …, "<module>.lora_B": …}`.
    """
    modules = sorted({key.rpartition(".")[0] for key in tensors})
    found = {module: tensor_name(names, f"{module}.weight") for module in modules}
    unknown = [module for module, name in found.items() if name is None]
    return {module: name for module, name in found.items() if name is not None}, unknown
