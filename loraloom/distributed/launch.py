"""How this process was started: alone, or as a rank started by torchrun, `accelerate launch` or a scheduler.

torchrun and `accelerate launch` describe a rank in environment variables. Nothing here imports torch.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from loraloom.errors import RunError
from loraloom.text.message import Message

TIMEOUT_VARIABLE = "LORALOOM_RANK_TIMEOUT"
TIMEOUT_SECONDS = 600.0
_SIZES_OF_MPI = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE")
RANK, SIZE, ADDRESS, PORT = "RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"


@dataclass(frozen=True)
class Launch:
    """The place of this process among the processes of its training run.

    Args:
        rank: its number, from 0.
        size: number of processes.
        local_rank: its number among the processes on its machine, from 0.
        local_size: number of processes on its machine.
        address, port: where the processes meet.
        timeout: seconds to wait for a rank that does not answer.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    address: str = ""
    port: int = 0
    timeout: float = TIMEOUT_SECONDS

    @property
    def is_alone(self) -> bool:
        """Whether there is only this process."""
        return self.size == 1

    @property
    def is_follower(self) -> bool:
        """Whether another process, rank 0, writes the run folder and communicates with the user."""
        return self.rank > 0

    @property
    def meeting_place(self) -> str:
        """The address where the processes meet, as `address:port`."""
        return f"{self.address}:{self.port}"


def read_launch(environ: Mapping[str, str] | None = None) -> Launch:
    """Read how this process was started.

    Args:
        environ: environment variables; by default those of this process.

    Raises:
        RunError: the variables contradict each other, or one of them is missing or not a number.
    """
    environ = os.environ if environ is None else environ
    if RANK not in environ or SIZE not in environ:
        return Launch()
    size = _count(environ, SIZE, least=1)
    rank = _count(environ, RANK, most=size - 1)
    if size == 1:
        return Launch()
    for name in (ADDRESS, PORT):
        if not environ.get(name):
            raise RunError(
                Message("{rank} and {size} are set, but {name} is not", rank=RANK, size=SIZE, name=name),
                where=name,
                fix=Message("Start the processes with torchrun, which sets all of these variables."),
            )
    local_size = _count(environ, "LOCAL_WORLD_SIZE", size, least=1)
    return Launch(
        rank=rank,
        size=size,
        local_rank=_count(environ, "LOCAL_RANK", rank % local_size, most=local_size - 1),
        local_size=local_size,
        address=environ[ADDRESS],
        port=_count(environ, PORT, least=1, most=65_535),
        timeout=_seconds(environ),
    )


def require_known_place(environ: Mapping[str, str] | None = None) -> None:
    """Refuse to train if several processes were requested or started, but this one does not know its rank.

    Only training calls this: Slurm (PMI) and MPI also start the processes of a search, those that join
    it, and the nodes of a Ray cluster, each of which works on its own.

    `accelerate launch --cpu --num_processes N` sets MASTER_ADDR and MASTER_PORT, but silently starts only one
    process (observed with 1.15.0), unless it is given a host file for MPI. Processes started by MPI have no
    RANK.

    Args:
        environ: environment variables; by default those of this process.

    Raises:
        RunError: several processes were requested or started, and RANK or WORLD_SIZE is not set.
    """
    environ = os.environ if environ is None else environ
    if RANK in environ and SIZE in environ:
        return
    fix = Message(
        "Use `torchrun --nproc-per-node N -m loraloom`, followed by the same command; to train separately in "
        "each process, set RANK=0 and WORLD_SIZE=1."
    )
    for name in _SIZES_OF_MPI:
        if (size := environ.get(name, "")).isdigit() and int(size) > 1:
            raise RunError(
                Message(
                    "{size} processes were started, but {rank} and {own} do not specify which one this is",
                    size=size,
                    rank=RANK,
                    own=SIZE,
                ),
                where=name,
                fix=fix,
            )
    if environ.get("ACCELERATE_USE_CPU", "").lower() == "true" and PORT in environ:
        raise RunError(
            Message("`accelerate launch` was asked for several CPU processes, but started only this one"),
            where="ACCELERATE_USE_CPU",
            fix=fix,
        )


def _count(
    environ: Mapping[str, str], name: str, default: int | None = None, *, least: int = 0, most: int = 2**20
) -> int:
    text = environ.get(name, "" if default is None else str(default))
    if not (text.isascii() and text.isdigit() and least <= int(text) <= most):
        raise RunError(
            Message("has an invalid value"),
            where=name,
            found=text[:40],
            allowed=Message("a whole number from {least} to {most}", least=least, most=most),
            fix=Message("Start the processes with torchrun, which sets it."),
        )
    return int(text)


def _seconds(environ: Mapping[str, str]) -> float:
    text = environ.get(TIMEOUT_VARIABLE, str(TIMEOUT_SECONDS))
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 1 <= seconds <= 86_400:
        raise RunError(
            Message("has an invalid value"),
            where=TIMEOUT_VARIABLE,
            found=text[:40],
            allowed=Message("a number of seconds from 1 to 86400"),
        )
    return seconds
