"""How much faster a search is with two Ray workers than with one, and what the driver costs.

    python -m benchmarks.workers [--trials 32] [--rounds 3]

Trials of equal length on the starter, random sampler; a Ray cluster of this machine with one worker of one
thread, and one with two, by turns. Needs Ray (`pip install 'loraloom[ray]'`) and two quiet cores: the load is
printed. Time counts from the first worker that takes part to the end of the search; starting Ray and reading
the base, which a search pays once, are printed apart.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from loraloom.commands.search import search
from loraloom.recipe.reading import read_recipe
from loraloom.run.events import Event, Note
from loraloom.search.request import make_request
from loraloom.search.space_file import parse_space
from loraloom.training.pool import WavePool
from loraloom.training.waves import WorkerMessage
from loraloom.workers.ray_options import RayOptions

SPACE = "lr: {low: 1.0e-4, high: 3.0e-3, log: true}\nlora:\n  r: [4, 8]\n"
RECIPE = {
    "model_name_or_path": "starter",
    "data": {"train": "starter", "max_source_length": 128, "max_target_length": 64},
    "training": {
        "max_steps": 12,
        "per_device_train_batch_size": 8,
        "eval_strategy": "steps",
        "eval_steps": 6,
        "save_strategy": "steps",
        "save_steps": 6,
    },
    "device": "cpu",
    "dtype": "float32",
}


@dataclass
class Watch:
    """Times of one search.

    Args:
        began: when the search was called.
        took_part: when each worker took part.
        sent: when each wave was sent, by its worker.
        busy: seconds that workers had a wave.
        cpu: seconds of this process's processor before the first worker took part.
    """

    began: float = field(default_factory=time.monotonic)
    took_part: list[float] = field(default_factory=list)
    sent: dict[int, float] = field(default_factory=dict)
    busy: float = 0.0
    waves: int = 0
    last_end: dict[int, float] = field(default_factory=dict)
    gaps: float = 0.0
    cpu: float = 0.0

    def __call__(self, event: Event) -> None:
        """Notice when a worker takes part."""
        if isinstance(event, Note) and "takes part" in str(event.message):
            self.cpu = self.cpu or time.process_time()
            self.took_part.append(time.monotonic())

    @contextmanager
    def on_pools(self) -> Iterator[None]:
        """Notice when waves leave and come back."""
        send, take = WavePool.send, WavePool._take

        def sending(pool: WavePool, lane: Any, worker: Any, *args: Any) -> None:
            send(pool, lane, worker, *args)
            now = time.monotonic()
            self.sent[id(worker)], self.waves = now, self.waves + 1
            if id(worker) in self.last_end:
                self.gaps += now - self.last_end.pop(id(worker))

        def taking(pool: WavePool, worker: Any, message: WorkerMessage) -> None:
            if message.kind == "end" and id(worker) in self.sent:
                now = time.monotonic()
                self.busy += now - self.sent.pop(id(worker))
                self.last_end[id(worker)] = now
            take(pool, worker, message)

        with mock.patch.object(WavePool, "send", sending), mock.patch.object(WavePool, "_take", taking):
            yield


def measure(folder: Path, num_workers: int, num_trials: int) -> dict[str, float]:
    """Search once with a number of workers."""
    import ray

    ray.init(
        address="local",
        num_cpus=num_workers,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        object_store_memory=200 * 2**20,
    )
    (folder / "recipe.yaml").write_text(json.dumps(RECIPE), encoding="utf-8")
    recipe = read_recipe(folder / "recipe.yaml")
    space = parse_space(SPACE, name="space.yaml", recipe=recipe)
    request = make_request(recipe, space, num_trials=num_trials, sampler="random")
    watch = Watch()
    with watch.on_pools():
        found = search(request, out=folder / "run", ray=RayOptions(num_cpus=1), report=watch)
    seconds = time.monotonic() - watch.took_part[0]
    cpu = time.process_time() - watch.cpu
    ray.shutdown()
    assert sum(trial.status == "done" for trial in found.ledger.trials) == num_trials
    return {
        "workers": num_workers,
        "seconds": seconds,
        "start_seconds": watch.took_part[0] - watch.began,
        "waves": watch.waves,
        "busy_share": watch.busy / (seconds * num_workers),
        "gap_share": watch.gaps / watch.busy,
        "driver_cpu_share": cpu / watch.busy,
        "load": os.getloadavg()[0],
    }


def main() -> None:
    """Measure by turns, and print a line each and the medians."""
    parser = argparse.ArgumentParser(description="Searches on one and on two Ray workers, by turns.")
    parser.add_argument("--trials", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    # One thread each; and Ray would run workers at a lower priority than their driver and everything else.
    os.environ |= {"OMP_NUM_THREADS": "1", "RAY_worker_niceness": "0"}
    found: dict[int, list[dict[str, float]]] = {1: [], 2: []}
    for _ in range(asked.rounds):
        for num_workers in found:
            with tempfile.TemporaryDirectory() as folder:
                line = measure(Path(folder), num_workers, asked.trials)
            found[num_workers].append(line)
            print(json.dumps({key: round(value, 4) for key, value in line.items()}), flush=True)
    one, two = (statistics.median(line["seconds"] for line in found[number]) for number in (1, 2))
    both = [line for lines in found.values() for line in lines]
    print(f"two workers take {two / one:.2f} of the time of one ({two:.1f} s, {one:.1f} s)")
    for key in ("gap_share", "driver_cpu_share"):
        print(f"{key}: {statistics.median(line[key] for line in both):.2%} of a wave")


if __name__ == "__main__":
    main()
