"""What a worker and its driver pay for talking through a run's folder: time, memory, and room on the disk.

    python -m benchmarks.exchange [--waves 20] [--steps 40] [--step-seconds 0.05] [--experiments 10]

The worker is a process that trains nothing: at each step it tells an event for each experiment and asks
whether it is wanted back, then it sleeps; half way it tells a checkpoint. The driver is this process; it only
gives out waves and takes in what is told. Prints one line of JSON of this, and before it one of the journal
alone: what a line costs, and what events would cost that were in it.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import tempfile
import time
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any

import torch

from benchmarks.many_trials import anonymous_mib
from loraloom.run.events import TrainStep
from loraloom.run.folder import create_run
from loraloom.training.checkpoint import state_files
from loraloom.training.signals import StopRequest
from loraloom.training.state import Progress, SlotTensors, TrainingState
from loraloom.training.waves import Wave, Worker, WorkerMessage
from loraloom.workers.beats import replace_quickly
from loraloom.workers.file_post import FilePost
from loraloom.workers.file_workers import FileWorkers
from loraloom.workers.journal import Journal
from loraloom.workers.wave_files import FOLDER

POLL_SECONDS = 0.02  # of the pool, while workers tell something


def step_event(step: int) -> dict[str, Any]:
    """Return the event of a step as a worker tells it."""
    values = {"step": step, "experiment": "trial-0007", "experiment_step": step, "total_steps": 1000}
    figures = {"epoch": 1.25, "loss": 2.3456789, "learning_rate": 1e-4, "grad_norm": 0.7654321}
    return TrainStep.from_json(values | figures | {"num_tokens": 300, "tokens_per_second": 1234.5}).to_json()


def work(folder: Path, steps: int, step_seconds: float, num: int, found: Queue[dict[str, float]]) -> None:
    """Be a worker until it is dismissed; measure what the exchange takes of its time."""
    post = FilePost(folder, "worker", StopRequest())
    post.ready(num, "cpu")
    seconds, waited = 0.0, 0.0
    while (wave := post.receive()) is not None:
        for step in range(steps):
            began = time.perf_counter()
            for _ in range(num):
                post.send(WorkerMessage("event", wave.number, event=step_event(step)))
            if step == steps // 2:
                post.send(WorkerMessage("checkpoint", wave.number, files=wave.files))
            post.is_recalled()
            seconds += time.perf_counter() - began
            time.sleep(step_seconds)
            waited += step_seconds
        began = time.perf_counter()
        post.send(WorkerMessage("end", wave.number, files=wave.files))
        seconds += time.perf_counter() - began
    found.put({"worker_share": seconds / (seconds + waited)})
    post.close()


def drive(worker: Worker, files: dict[str, bytes], num_waves: int) -> dict[str, float]:
    """Give out waves, one after the other, and take in all that is told."""
    wall, cpu, begun, num_events, num_checkpoints = 0.0, 0.0, time.perf_counter(), 0, 0
    for number in range(num_waves):
        is_back = False
        at, used = time.perf_counter(), time.process_time()
        worker.start(Wave(number, "recipe", files))
        wall, cpu = wall + time.perf_counter() - at, cpu + time.process_time() - used
        while not is_back:
            time.sleep(POLL_SECONDS)
            at, used = time.perf_counter(), time.process_time()
            messages = worker.messages()
            wall, cpu = wall + time.perf_counter() - at, cpu + time.process_time() - used
            assert not worker.loss, worker.loss
            num_events += sum(message.kind == "event" for message in messages)
            num_checkpoints += sum(message.kind == "checkpoint" for message in messages)
            is_back = any(message.kind == "end" for message in messages)
    total = time.perf_counter() - begun
    return {
        "seconds_per_wave": total / num_waves,
        "driver_wall_share": wall / total,
        "driver_cpu_share": cpu / total,
        "driver_cpu_ms_per_wave": 1000 * cpu / num_waves,
        "events": num_events,
        "checkpoints": num_checkpoints,
    }


def journal_costs(folder: Path, num: int, num_lines: int = 300) -> dict[str, float]:
    """Return what a line of a journal takes, beside a file that is replaced, and events in such lines."""
    folder.mkdir()
    journal, trial = Journal(folder), "trial"
    journal.begin()
    began = time.perf_counter()
    for number in range(num_lines):
        journal.note(trial, number)
    line = (time.perf_counter() - began) / num_lines
    paused = 0.0  # as from workers, whose lines do not follow each other
    for number in range(num_lines // 3):
        time.sleep(POLL_SECONDS)
        began = time.perf_counter()
        journal.note(trial, number)
        paused += (time.perf_counter() - began) / (num_lines // 3)
    began = time.perf_counter()
    for _ in range(num_lines):
        replace_quickly(folder / "file", b"x" * 1000)
    file = (time.perf_counter() - began) / num_lines
    began = time.perf_counter()
    for _ in range(num_lines):
        journal.noted(trial)
    look = (time.perf_counter() - began) / num_lines
    size, memory = journal.file.stat().st_size, anonymous_mib()
    for number in range(num_lines):
        events = [step_event(number) for _ in range(num)]
        journal._study.enqueue_trial({}, user_attrs={str(at): event for at, event in enumerate(events)})
    num_events = num_lines * num
    return {
        "line_ms": 1000 * line,
        "line_after_a_pause_ms": 1000 * paused,
        "replaced_file_ms": 1000 * file,
        "look_ms": 1000 * look,
        "event_bytes_on_disk": (journal.file.stat().st_size - size) / num_events,
        "event_bytes_in_memory": 2**20 * (anonymous_mib() - memory) / num_events,
    }


def main() -> None:
    """Measure once."""
    parser = argparse.ArgumentParser(description="The price of talking through a run's folder.")
    parser.add_argument("--waves", type=int, default=20)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--step-seconds", type=float, default=0.05)
    parser.add_argument("--experiments", type=int, default=10)
    parser.add_argument("--numbers", type=int, default=50_000, help="of an adapter")
    asked = parser.parse_args()
    names = [f"trial-{number:04d}" for number in range(asked.experiments)]
    tensors = {name: SlotTensors(current={"a": torch.zeros(asked.numbers)}) for name in names}
    state = TrainingState(1, {name: Progress("training", 1) for name in names}, tensors)
    files = dict(state_files(state))
    with tempfile.TemporaryDirectory() as folder:
        costs = journal_costs(Path(folder) / "journal", asked.experiments)
        print(json.dumps({key: round(value, 3) for key, value in costs.items()}))
        run = create_run(Path(folder) / "run")
        with run.locked():
            source, context = FileWorkers(run), multiprocessing.get_context("spawn")
            queue: Queue[dict[str, float]] = context.Queue()
            own = run.folder / FOLDER / f"worker-{os.getpid()}-0"
            process = context.Process(
                target=work, args=(own, asked.steps, asked.step_seconds, asked.experiments, queue)
            )
            process.start()
            while not (workers := source.newcomers()):
                time.sleep(POLL_SECONDS)
            before = anonymous_mib()
            found = drive(workers[0], files, asked.waves)
            grown = 1024 * (anonymous_mib() - before)
            left = sum(file.stat().st_size for file in own.glob("*"))
            workers[0].dismiss()
            source.close()
            found |= queue.get() | {"driver_grown_kib": grown, "bytes_in_folder": left}
            process.join()
    found |= {"load": os.getloadavg()[0]}
    print(json.dumps({key: round(value, 5) for key, value in found.items()}))


if __name__ == "__main__":
    main()
