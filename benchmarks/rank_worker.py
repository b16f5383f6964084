"""A rank of `loraloom train` that counts: bytes summed and gathered, and its memory while it trains.

    RANK=… WORLD_SIZE=… python -m benchmarks.rank_worker OUT.json train recipe.yaml --out run
    RANK=… WORLD_SIZE=… python -m benchmarks.rank_worker OUT.json compare run

Used by `benchmarks.scale`. The kernel's count of the peak is reset at the second step, so that neither
loading nor the checks, which only rank 0 computes, are in it. Bytes are those of steps, without what is
gathered after the last one to measure movement. Of `compare`, it counts resident memory from the first pass
on, because the whole base may be pages of a file.
"""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path
from typing import Any
from unittest import mock

import torch.distributed as dist
from torch.distributed.tensor import DTensor

from loraloom.cli import main as command
from loraloom.evaluate import generation
from loraloom.training import loop


def main() -> None:
    out = Path(sys.argv[1])
    sys.argv = ["loraloom", *sys.argv[2:]]
    if sys.argv[1] == "compare":
        count_answers(out)
        return
    counts: dict[str, Any] = {"reduced": 0, "gathered": 0, "steps": 0, "seconds": []}
    count_calls(counts)
    count_steps(counts)
    try:
        command()
    finally:
        counts["peak"] = status("VmHWM")
        out.write_text(json.dumps(counts), encoding="utf-8")


def count_answers(out: Path) -> None:
    """Run the command, and watch resident memory from the first pass on."""
    counts: dict[str, float] = {"imports": status("VmRSS")}
    compute = generation.answer

    def answer(*args: Any, **options: Any) -> Any:
        if "loaded" not in counts:
            counts.update(loaded=status("VmRSS"), seconds=time.perf_counter())
            Path("/proc/self/clear_refs").write_text("5")  # reset the peak
        return compute(*args, **options)

    mock.patch("loraloom.session.shared_passes.answer", answer).start()
    try:
        command()
    finally:
        counts["peak"] = status("VmHWM")
        counts["seconds"] = time.perf_counter() - counts["seconds"]
        out.write_text(json.dumps(counts), encoding="utf-8")


def count_calls(counts: dict[str, Any]) -> None:
    """Count the bytes of sums, and those of others that are gathered."""
    reduce, whole = dist.all_reduce, DTensor.full_tensor

    def all_reduce(tensor: Any, *args: Any, **options: Any) -> Any:
        counts["reduced"] += tensor.nbytes
        return reduce(tensor, *args, **options)

    def full_tensor(own: Any, **options: Any) -> Any:
        counts["gathered"] += own.nbytes - own.to_local().nbytes
        return whole(own, **options)

    mock.patch.object(dist, "all_reduce", all_reduce).start()
    mock.patch.object(DTensor, "full_tensor", full_tensor).start()
    for name in ("all_gather_single", "all_gather_into_tensor"):  # torch 2.13 and older ones
        if hasattr(dist, name):
            setattr(dist, name, counted(getattr(dist, name), counts))


def counted(gather: Any, counts: dict[str, Any]) -> Any:
    def all_gather(*args: Any, **options: Any) -> Any:
        output, own = args if args else (options["output_tensor"], options["input_tensor"])
        counts["gathered"] += output.nbytes - own.nbytes
        return gather(*args, **options)

    return all_gather


def count_steps(counts: dict[str, Any]) -> None:
    """Count from the second step on, and time the steps."""
    take = loop.take_step

    def take_step(engine: Any) -> None:
        counts["steps"] += 1
        if counts["steps"] == 2:
            Path("/proc/self/clear_refs").write_text("5")
            counts["loaded"] = status("VmRSS")
            counts.update(reduced=0, gathered=0, seconds=[])
        started = time.perf_counter()
        take(engine)
        counts["of_steps"] = {key: counts[key] for key in ("reduced", "gathered")}
        counts["seconds"].append(time.perf_counter() - started)

    mock.patch.object(loop, "take_step", take_step).start()


def status(name: str) -> int:
    """Bytes of a line of this process's status."""
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


if __name__ == "__main__":
    main()
