"""A base divided on two processes by transformers' DistributedConfig and by ours: memory of a pass.

    python -m benchmarks.sharded_loading [--layers 6] [--d-model 512]

Each side is two processes of this machine with one thread, connected by gloo, on an mT5 of random weights in
float32. A pass is a forward pass without gradients on 8 pairs of 32 tokens; its peak is what a process has
beside what loading left, as the kernel counts pages of no file. Losses must be those of one process.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import torch

from benchmarks.rounds import options_of
from tests.tiny import make_folder

SIDES = {
    "one process": None,
    "DistributedConfig, its plan": {},
    "DistributedConfig, a plan for T5": {
        "encoder.block.*": "free_full_weight",
        "decoder.block.*": "free_full_weight",
        "shared": "free_full_weight",
        "lm_head": "free_full_weight",
    },
    "training.shard_base": "ours",
}
RANKS, ROWS, TOKENS = 2, 8, 32


def main() -> None:
    """Measure and print a Markdown table."""
    parser = options_of(__doc__)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--d-model", type=int, default=512)
    parser.add_argument("--side", help=argparse.SUPPRESS)
    parser.add_argument("--model", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side is not None:
        print(json.dumps(measured(options.side, options.model)))
        return
    d_model = options.d_model
    sizes = {"d_model": d_model, "d_ff": d_model * 8 // 3, "d_kv": 64, "num_heads": d_model // 64}
    layers = {"num_layers": options.layers, "num_decoder_layers": options.layers}
    print("| base | weights a process keeps | peak of a pass | loss |\n|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        make_folder(Path(scratch), "mt5", **sizes, **layers, vocab_size=32_128)
        for side in SIDES:
            found = [json.loads(said.splitlines()[-1]) for said in processes(side, scratch)]
            worst = max(found, key=lambda own: own["peak"])
            cells = (side, mib(worst["kept"]), mib(worst["peak"]), f"{worst['loss']:.6f}")
            print(f"| {' | '.join(cells)} |", flush=True)


def processes(side: str, model: str) -> list[str]:
    """What the processes of a side print."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
    size = 1 if SIDES[side] is None else RANKS
    begun = []
    for rank in range(size):
        where = dict[str, object](RANK=rank, LOCAL_RANK=rank, WORLD_SIZE=size, LOCAL_WORLD_SIZE=size)
        where |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": 1}
        where |= {"MALLOC_MMAP_THRESHOLD_": 2**20}  # glibc returns what is released, as a GPU's allocator can
        words = [
            sys.executable,
            "-W",
            "ignore",
            "-m",
            "benchmarks.sharded_loading",
            "--side",
            side,
            "--model",
            model,
        ]
        own = {**os.environ, **{key: str(value) for key, value in where.items()}}
        begun.append(subprocess.Popen(words, env=own, stdout=subprocess.PIPE, text=True))
    said = [each.communicate()[0] for each in begun]
    if any(each.returncode for each in begun):
        raise SystemExit(1)
    return said


def measured(side: str, folder: str) -> dict[str, float]:
    """What this process keeps, the peak of its second pass, and the loss."""
    plan = SIDES[side]
    if plan is not None:
        torch.distributed.init_process_group("gloo")
    model = loaded(folder, plan)
    kept = sum((p.to_local() if hasattr(p, "to_local") else p).nbytes for p in model.parameters())
    ids = torch.arange(5, 5 + ROWS * TOKENS).view(ROWS, TOKENS)
    with torch.no_grad():
        model(input_ids=ids, labels=ids)
        before, watch = anonymous(), Watch()
        loss = float(model(input_ids=ids, labels=ids).loss)
        peak = watch.end() - before
    if plan is not None:
        torch.distributed.destroy_process_group()
    return {"kept": kept, "peak": peak, "loss": loss}


def loaded(folder: str, plan: Any) -> Any:
    """The model as a side loads it."""
    if plan == "ours":
        from loraloom.base.loading import load_base

        return load_base(folder, dtype="float32", device="cpu", is_sharded=True).model.eval()
    from transformers import AutoModelForSeq2SeqLM
    from transformers.distributed import DistributedConfig

    own = {} if plan is None else {"distributed_config": DistributedConfig(fsdp_size=RANKS, fsdp_plan=plan)}
    model = AutoModelForSeq2SeqLM.from_pretrained(folder, dtype=torch.float32, **own)
    return model.requires_grad_(False).eval()


def anonymous() -> int:
    """Resident pages of no file, in bytes."""
    memory = psutil.Process().memory_info()
    return int(memory.rss - memory.shared)


class Watch:
    """Looks at this process's memory in a thread until its end."""

    def __init__(self) -> None:
        self._peak, self._ended = 0, threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def _look(self) -> None:
        while not self._ended.is_set():
            self._peak = max(self._peak, anonymous())
            time.sleep(0.0005)

    def end(self) -> int:
        """Return the peak."""
        self._ended.set()
        self._thread.join()
        return self._peak


def mib(number: float) -> str:
    """Bytes in MiB."""
    return f"{number / 2**20:,.0f} MiB"


if __name__ == "__main__":
    main()
