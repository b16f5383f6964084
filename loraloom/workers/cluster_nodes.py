"""The nodes of a Ray cluster: how many workers each can have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from loraloom.text.message import Message


@dataclass(frozen=True)
class Slot:
    """A part of a node that one worker uses.

    Args:
        node: Ray's id of the node.
        host: the node's name in messages.
        num_cpus, num_gpus: CPUs and GPUs that the worker reserves.
        num_beside: number of other workers that share the node's memory.
    """

    node: str
    host: str
    num_cpus: int
    num_gpus: int
    num_beside: int


def slots_of(node: Mapping[str, Any], num_cpus: int | None) -> dict[Slot, int]:
    """Return a dict from the slot of a node's workers to their number; empty if no worker fits.

    The number is one per GPU, limited by the CPUs; or, on a node without a GPU, as many as its CPUs allow.

    Args:
        node: an entry of `ray.nodes()`.
        num_cpus: CPUs per worker; by default all CPUs of the node, or an equal share of them for each GPU.
    """
    resources = node["Resources"]
    cpus, gpus = int(resources.get("CPU", 0)), int(resources.get("GPU", 0))
    own = num_cpus or (max(1, cpus // gpus) if gpus else max(1, cpus))
    number = min(cpus // own, gpus) if gpus else cpus // own
    if number == 0:
        return {}
    return {Slot(node["NodeID"], node["NodeManagerHostname"], own, min(1, gpus), number - 1): number}


def too_few_cpus(node: Mapping[str, Any], num_cpus: int | None) -> Message:
    """Describe a node that has too few CPUs for a worker."""
    return Message(
        "{worker} cannot take part: it offers {own} CPUs, and a worker needs {num_cpus}",
        worker=node["NodeManagerHostname"],
        own=int(node["Resources"].get("CPU", 0)),
        num_cpus=num_cpus or 1,
    )
