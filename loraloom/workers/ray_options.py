"""The user's options for Ray; this module does not import Ray."""

from __future__ import annotations

import importlib.util
import socket
from dataclasses import dataclass

from loraloom.errors import RunError
from loraloom.text.message import Message
from loraloom.text.visible import one_line

SECONDS_TO_REACH = 10.0


@dataclass(frozen=True)
class RayOptions:
    """A Ray cluster to train on.

    Args:
        address: `HOST:PORT`, `ray://HOST:PORT`, `local` to start one on this machine, or `auto`: the cluster
            that this machine belongs to, or a new one.
        num_cpus: CPUs per worker; by default all CPUs of its node, or an equal share of them for each GPU.
        sends_files: whether base and data are sent through the object store, because workers do not have
            them at the same paths.
    """

    address: str = "auto"
    num_cpus: int | None = None
    sends_files: bool = False

    def require_cluster(self) -> None:
        """Refuse a cluster that cannot be used, before base and data are read.

        Raises:
            RunError: Ray is not installed, or nothing answers at the address.
        """
        if importlib.util.find_spec("ray") is None:
            raise not_installed()
        try:
            self.reach()
        except (OSError, ValueError, OverflowError) as error:  # `a..b:6379`, `head:²`
            raise self.no_answer(error) from None

    def reach(self) -> None:
        """Test whether the address accepts a connection, because Ray itself would retry for minutes.

        Raises:
            OSError, ValueError, OverflowError: nothing answers at the address, or it is invalid.
        """
        host, colon, port = self.address.removeprefix("ray://").rpartition(":")
        if colon and port.isdigit():
            with socket.create_connection((host.strip("[]"), int(port)), timeout=SECONDS_TO_REACH):
                pass

    def no_answer(self, error: Exception) -> RunError:
        """Return the error for a cluster that does not answer."""
        return RunError(
            Message("no Ray cluster answers"),
            where=f"--ray {self.address}",
            found=one_line(str(error))[:200],
            fix=Message("Start one with `ray start --head`, or give its address, HOST:PORT."),
        )


def not_installed() -> RunError:
    """Return the error for Ray not being installed."""
    return RunError(
        Message("Ray is not installed"),
        where="--ray",
        fix=Message("Install it on every machine: pip install 'loraloom[ray]'."),
    )
