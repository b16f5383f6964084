"""Assignment of a merged folder's tensors to files, as `save_pretrained` does it, without the weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from huggingface_hub import split_torch_state_dict_into_shards
from torch import Tensor
from transformers import PreTrainedModel
from transformers.core_model_loading import revert_weight_conversion
from transformers.modeling_utils import remove_tied_weights_from_state_dict
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME

from loraloom.export.transformers_folder import SHARD_SIZE
from loraloom.run.atomic import write_bytes

PATTERN = "model{suffix}.safetensors"


@dataclass(frozen=True)
class ShardPlan:
    """The files of a folder.

    Args:
        tensors: tensors of the model, by their names in files; a tied one is listed once.
        sizes: dtype and shape with which each tensor is written.
        files: the tensors' names by file.
        index: contents of the index; None if there is only one file.
    """

    tensors: Mapping[str, Tensor]
    sizes: Mapping[str, tuple[torch.dtype, torch.Size]]
    files: Mapping[str, list[str]]
    index: Mapping[str, object] | None

    def write_index(self, folder: Path) -> None:
        """Write the index, if there is one."""
        if self.index is not None:
            text = json.dumps(self.index, indent=2, sort_keys=True) + "\n"
            write_bytes(folder / SAFE_WEIGHTS_INDEX_NAME, text.encode())


def plan_shards(model: PreTrainedModel, dtype: torch.dtype) -> ShardPlan:
    """Plan the files for saving a model in a given dtype.

    Args:
        model: the model, on the CPU; its weights are not read.
        dtype: dtype of every floating-point weight.
    """
    ignored = model._keys_to_ignore_on_save or ()
    state = {name: tensor for name, tensor in model.state_dict().items() if name not in ignored}
    tensors = revert_weight_conversion(model, remove_tied_weights_from_state_dict(state, model))
    sizes = {
        key: (dtype if tensor.is_floating_point() else tensor.dtype, tensor.shape)
        for key, tensor in tensors.items()
    }
    split = split_torch_state_dict_into_shards(
        {key: torch.empty(shape, dtype=own, device="meta") for key, (own, shape) in sizes.items()},
        filename_pattern=PATTERN,
        max_shard_size=SHARD_SIZE,
    )
    index = {
        "metadata": {"total_parameters": model.num_parameters(), **split.metadata},
        "weight_map": split.tensor_to_filename,
    }
    return ShardPlan(tensors, sizes, split.filename_to_tensors, index if split.is_sharded else None)
