"""A command line on several ranks, as torchrun starts it: by environment variables, in warm children."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from tests.faults.training import fruits
from tests.faults.warm import Ended, Started, Warm

# A loaded machine may take this long to start a rank.
SECONDS = "60"


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


@dataclass(frozen=True)
class RankGroup:
    """Starts ranks."""

    warm: Warm

    def start(
        self,
        *argv: str | Path,
        cwd: Path,
        size: int = 2,
        port: int | None = None,
        timeout: str = SECONDS,
        own: dict[int, list[str | Path]] | None = None,
        faults: dict[int, dict[str, Any]] | None = None,
        **env: str,
    ) -> list[Started]:
        """Start all ranks.

        Args:
            argv: what every rank is started with.
            own: by rank, what it is started with instead.
            faults: by rank.
            env: of every rank.
        """
        port = free_port() if port is None else port
        return [
            self.warm.start(
                *(own or {}).get(rank, argv),
                cwd=cwd,
                faults=(faults or {}).get(rank),
                RANK=str(rank),
                LOCAL_RANK=str(rank),
                WORLD_SIZE=str(size),
                LOCAL_WORLD_SIZE=str(size),
                MASTER_ADDR="127.0.0.1",
                MASTER_PORT=str(port),
                LORALOOM_RANK_TIMEOUT=timeout,
                **env,
            )
            for rank in range(size)
        ]

    def call(self, *argv: str | Path, cwd: Path, **how: Any) -> list[Ended]:
        """Start all ranks, and wait until they end."""
        return [started.wait() for started in self.start(*argv, cwd=cwd, **how)]


def assert_same_training(run: Path, expected: Path, *, losses_within: float = 1e-5) -> None:
    """Every loss and the ends are equal, and adapters are as far as the order of sums allows."""
    found, wanted = fruits(run), fruits(expected)
    assert found.losses.keys() == wanted.losses.keys()
    assert max(abs(found.losses[key] - wanted.losses[key]) for key in wanted.losses) < losses_within
    for name, end in wanted.ends.items():
        for key in ("status", "step", "best_step"):
            assert found.ends[name][key] == end[key], (name, key)
    for file in (expected / "adapters").glob("*/adapter_model.safetensors"):
        ours, theirs = load_file(run / file.relative_to(expected)), load_file(file)
        for key, tensor in theirs.items():
            # Of the whole tensor: AdamW's first steps are signs of gradients, so that of an element whose
            # gradient is nothing but rounding is a step of its own.
            assert float((ours[key] - tensor).norm()) <= 1e-3 * float(tensor.norm()), (file, key)
