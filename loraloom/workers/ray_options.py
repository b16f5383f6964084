"""What a user asks of Ray; nothing here imports it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RayOptions:
    """A Ray cluster to train on.

    Args:
        address: `HOST:PORT`, `ray://HOST:PORT`, `local` to start one on this machine, or `auto`: the cluster
            that this machine belongs to, or a new one.
        num_cpus: CPUs of a worker; by default all of its node, or its GPU's share of them.
        sends_files: whether base and data are sent through the object store, because workers do not find them
            at the same paths.
    """

    address: str = "auto"
    num_cpus: int | None = None
    sends_files: bool = False
