"""The tensors of an adapter, sorted by where they belong: linears, norms, or rows of the embeddings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor

from loraloom.bank.token_rows import DELTA
from loraloom.bank.trained_norms import ENDS


class AdapterTensors(NamedTuple):
    """The tensors of an adapter by their names in the bank.

    Args:
        in_linears: A, B and any other tensors that the adapter's kind has in a linear.
        norms: trained norms.
        rows: trained rows of the embeddings.
    """

    in_linears: dict[str, Tensor]
    norms: dict[str, Tensor]
    rows: dict[str, Tensor]


def split_tensors(tensors: Mapping[str, Tensor]) -> AdapterTensors:
    """Sort the tensors of an adapter by where they belong: linears, norms, or rows of the embeddings."""
    found = AdapterTensors({}, {}, {})
    for name, tensor in tensors.items():
        end = name.rpartition(".")[2]
        own = found.rows if end == DELTA else found.norms if end in ENDS else found.in_linears
        own[name] = tensor
    return found


def adapted_linears(tensors: Mapping[str, Tensor]) -> list[str]:
    """Return the names of the linears for which an adapter has tensors, sorted."""
    return sorted({name.rpartition(".")[0] for name in split_tensors(tensors).in_linears})
