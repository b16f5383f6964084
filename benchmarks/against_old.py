"""This checkout beside another one: CPU time and peak memory of training and answering, in paired rounds.

    python -m benchmarks.against_old ../old-checkout [--rounds 15] [--steps 20] [--prompts 48] [--only answer]

Both sides run the same commands on the starter: training 1 adapter, training 4, and answering with the base
and the 1, or the base and the 4. Each checkout has one process, which is started once, runs everything once
without being measured, and is then asked in turn, first one side and then the other. A round gives one ratio
of this checkout's CPU time to the other's; CPU time hardly depends on what else the machine does. Printed are
the median of the ratios and an interval that contains the true median with a probability of at least 95 %,
whatever their distribution (order statistics). Peak memory is that of fresh processes that run one command
each.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.rounds import options_of
from loraloom.starter import data_file, model_folder

HERE = Path(__file__).resolve().parents[1]
WORKER = HERE / "benchmarks" / "command_worker.py"
CONFIDENCE = 0.95
MIB = 2**20


def main() -> None:
    """Measure and print."""
    parser = options_of(__doc__)
    parser.add_argument("other", type=Path, help="a checkout of another version")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=20, help="optimizer steps of a training")
    parser.add_argument("--prompts", type=int, default=48)
    parser.add_argument("--only", default="", metavar="WORD", help="measure the jobs that begin with it")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        sides = {
            "this": Side(HERE, Path(scratch) / "this", options),
            "other": Side(options.other.resolve(), Path(scratch) / "other", options),
        }
        seconds: dict[str, dict[str, list[float]]] = {
            job: {side: [] for side in sides}
            for job in next(iter(sides.values())).jobs
            if job.startswith(options.only)
        }
        peaks = {job: {name: side.peak_bytes(job) for name, side in sides.items()} for job in seconds}
        try:
            for number in range(options.rounds):
                run_round(sides, seconds, is_turned=number % 2 == 1)
                print(f"round {number + 1} of {options.rounds}", file=sys.stderr, flush=True)
        except KeyboardInterrupt:
            print("interrupted; these are the rounds so far", file=sys.stderr)
        for side in sides.values():
            side.close()
    report(seconds, peaks)


def run_round(
    sides: Mapping[str, Side], seconds: Mapping[str, Mapping[str, list[float]]], *, is_turned: bool
) -> None:
    """Run every job once on each side; `is_turned` lets the other side begin."""
    round_of_jobs = {
        job: {name: sides[name].cpu_seconds(job) for name in (list(sides)[::-1] if is_turned else sides)}
        for job in seconds
    }
    for job, measured in round_of_jobs.items():
        for name, own in measured.items():
            seconds[job][name].append(own)


class Side:
    """One checkout: its commands, and the process that runs them.

    Args:
        checkout: root of the repository.
        folder: for its recipes and runs; created.
        options: of the command line.
    """

    def __init__(self, checkout: Path, folder: Path, options: argparse.Namespace) -> None:
        self._checkout, self._folder = checkout, folder
        folder.mkdir()
        prompts = folder / "prompts.txt"
        rows = json.loads(data_file("train").read_text(encoding="utf-8"))
        prompts.write_text("\n".join(row["instruction"] for row in rows[: options.prompts]), encoding="utf-8")
        self.jobs = {
            "train 1 adapter": ["train", self._recipe(1, options.steps)],
            "train 4 adapters": ["train", self._recipe(4, options.steps)],
            "answer with 1 adapter": ["compare", folder / "run-1", "--prompts", prompts],
            "answer with 4 adapters": ["compare", folder / "run-2", "--prompts", prompts],
        }
        self._number = 0
        self._messages = (folder / "messages.txt").open("w", encoding="utf-8")
        self._worker = self._start()
        for job in self.jobs:  # imports, and the caches of a first run
            self.cpu_seconds(job)

    def _recipe(self, num_adapters: int, steps: int) -> Path:
        recipe = {
            "model_name_or_path": str(model_folder()),
            "data": {"train": str(data_file("train")), "max_source_length": 64, "max_target_length": 96},
            "lora": {"r": 16, "lora_alpha": 32, "lora_dropout": 0.1, "target_modules": "all-linear"},
            "training": {
                "learning_rate": 1e-3,
                "max_steps": steps,
                "per_device_train_batch_size": 16,
                "eval_strategy": "no",
                "save_strategy": "no",
            },
            "generation": {"max_new_tokens": 40},
            "device": "cpu",
            "dtype": "float32",
            "experiments": {f"e{number}": {"seed": number} for number in range(num_adapters)},
        }
        path = self._folder / f"recipe-{num_adapters}.yaml"
        path.write_text(json.dumps(recipe), encoding="utf-8")  # JSON is YAML
        return path

    def _start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-P", str(WORKER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._messages,
            text=True,
            cwd=self._checkout,
            env={**os.environ, "PYTHONPATH": str(self._checkout), "PYTHONWARNINGS": "ignore"},
        )

    def _arguments(self, job: str) -> list[str]:
        words = [str(word) for word in self.jobs[job]]
        if words[0] == "train":
            self._number += 1
            words += ["--out", str(self._folder / f"run-{self._number}")]
        return words

    def cpu_seconds(self, job: str) -> float:
        """Run a job, and return the CPU time it took."""
        return self._ask(self._worker, job)[0]

    def peak_bytes(self, job: str) -> int:
        """Run a job in a process of its own, and return the peak of its memory."""
        worker = self._start()
        peak = self._ask(worker, job)[1]
        worker.kill()
        worker.wait()
        return int(peak)

    def _ask(self, worker: subprocess.Popen[str], job: str) -> Sequence[float]:
        assert worker.stdin is not None
        assert worker.stdout is not None
        worker.stdin.write(json.dumps(self._arguments(job)) + "\n")
        worker.stdin.flush()
        answer = worker.stdout.readline()
        if not answer:
            messages = Path(self._messages.name).read_text(encoding="utf-8")
            raise SystemExit(f"{messages[-2000:]}\n{self._checkout}: `{job}` failed")
        seconds: list[float] = json.loads(answer)
        return seconds

    def close(self) -> None:
        """End its process."""
        self._worker.kill()
        self._worker.wait()
        self._messages.close()


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Return an interval that contains the true median with a probability of at least `CONFIDENCE`.

    Fewer than 6 values have none; their range is returned.

    >>> interval(range(1, 16))
    (4, 12)

    Source: order statistics; with k of n values below it, the true median is outside of the k-th smallest
    to the k-th largest value with twice the probability of fewer than k heads in n tosses.
    """
    ordered, number = sorted(values), len(values)
    outside, k = 0.0, 0
    while k < number // 2:
        outside += 2 * math.comb(number, k) / 2**number
        if outside > 1 - CONFIDENCE:
            break
        k += 1
    k = max(k, 1)
    return ordered[k - 1], ordered[number - k]


def report(
    seconds: Mapping[str, Mapping[str, Sequence[float]]], peaks: Mapping[str, Mapping[str, int]]
) -> None:
    """Print a line for each job."""
    for job, measured in seconds.items():
        ratios = [this / other for this, other in zip(measured["this"], measured["other"], strict=True)]
        low, high = interval(ratios)
        own, old = (statistics.median(measured[side]) for side in ("this", "other"))
        this, other = peaks[job]["this"], peaks[job]["other"]
        print(
            f"{job}: CPU time {own:.2f} s beside {old:.2f} s, ratio {statistics.median(ratios):.3f} "
            f"({low:.3f} to {high:.3f}, {len(ratios)} rounds); peak memory {this / MIB:.0f} MiB beside "
            f"{other / MIB:.0f} MiB, ratio {this / other:.3f}"
        )


if __name__ == "__main__":
    main()
