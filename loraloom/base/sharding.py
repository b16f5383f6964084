"""A frozen base whose weights are divided among the ranks of a training run, by torch's FSDP2.

Each rank keeps its part of every layer. A layer's weights are gathered when a pass enters it and released
when the pass leaves it, forward and backward, so a rank holds one whole layer at a time. Weights that are
read outside of a pass (the tiles of the output head, checks, movement) are gathered by `whole`. Either way,
all ranks must compute the same passes in the same order, or they wait for each other forever.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from loraloom.architectures.family import Family
from loraloom.errors import ModelError
from loraloom.text.message import Message


def shard(model: PreTrainedModel, family: Family, device: torch.device) -> None:
    """Divide the weights of a model's layers, embeddings and head among all ranks, in place.

    Args:
        model: the frozen model in CPU memory; each layer is moved to the device as it is divided.
        family: the family of its architecture.
        device: the device of the passes.

    Raises:
        ModelError: the model's layers cannot be found by their paths.
    """
    from torch.distributed import fsdp
    from torch.distributed.device_mesh import init_device_mesh

    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    layers = _layers(model, family)
    if not layers:
        raise ModelError(
            Message("the base cannot be divided among ranks, because its layers are not known"),
            where="training.shard_base",
            fix=Message("Remove this setting."),
        )
    for layer in layers:
        fsdp.fully_shard(layer, mesh=mesh, reshard_after_forward=True)
    _use_one_embedding(model)
    embeddings, head = model.get_input_embeddings(), model.get_output_embeddings()
    is_tied = head.weight is embeddings.weight
    fsdp.fully_shard(embeddings, mesh=mesh, reshard_after_forward=True)
    if is_tied:
        head.weight = embeddings.weight  # otherwise it would be divided once more, and kept twice
        head.forward = partial(_gathered_product, head)
    else:
        fsdp.fully_shard(head, mesh=mesh, reshard_after_forward=True)
    if hasattr(fsdp, "share_comm_ctx"):  # otherwise each layer would keep its gathered weights
        fsdp.share_comm_ctx([*layers, embeddings])
    for tensor in (*model.parameters(), *model.buffers()):  # those outside of layers: norms, positions
        if local_part(tensor) is tensor:
            tensor.data = tensor.data.to(device, copy=True)  # a view would keep the whole file in memory


def whole(weight: Tensor) -> Tensor:
    """Return a weight as one tensor; if it is divided among ranks, all of them must call this."""
    gather = getattr(weight, "full_tensor", None)
    return weight if gather is None else gather()


def local_part(weight: Tensor) -> Tensor:
    """Return this rank's part of a weight that may be divided among ranks."""
    own = getattr(weight, "to_local", None)
    return weight if own is None else own()


def _layers(model: PreTrainedModel, family: Family) -> list[Any]:
    """Return the layers of the encoder and the decoder; the weights of each are gathered together."""
    found = (family.layer_path.match(f"{path}.") for path in dict(model.named_modules()))
    paths = dict.fromkeys(match.group(0).rstrip(".") for match in found if match is not None)
    return [model.get_submodule(path) for path in paths]


def _gathered_product(head: nn.Linear, states: Tensor) -> Tensor:
    """Compute the output of a tied head, gathering its weight, which is divided with the embeddings."""
    return F.linear(states, whole(head.weight), head.bias)


def _use_one_embedding(model: PreTrainedModel) -> None:
    """Make encoder and decoder use one embedding module, so that FSDP2 divides the shared weight once."""
    shared = model.get_input_embeddings()
    for stack in (model.get_encoder(), model.get_decoder()):
        own = stack.get_input_embeddings()
        if own is not shared and own.weight is shared.weight and type(own) is type(shared):
            stack.set_input_embeddings(shared)
