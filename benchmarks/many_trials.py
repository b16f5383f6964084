"""Time and memory of scheduling thousands of trials on workers that train nothing.

    python -m benchmarks.many_trials [--trials 10000] [--workers 50] [--join]

The driver is the real one: it draws, judges with halving, gives out waves, and writes search.json, study.db,
recipe.yaml and the log. The workers are stubs that return at once with a figure of the trial's settings; no
adapter is written. With `--join` they are threads of another process that has joined: waves go through
journals and files in the run's folder. Prints memory (RssAnon) and seconds at every tenth of the trials.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from unittest import mock

from loraloom.commands import search as command
from loraloom.recipe.reading import parse_recipe, read_recipe
from loraloom.run.events import Event, TrialStart
from loraloom.run.folder import LOCK_FILE, Run
from loraloom.search.request import make_request
from loraloom.search.space_file import parse_space
from loraloom.training.checkpoint import read_state, state_files
from loraloom.training.signals import StopRequest
from loraloom.training.waves import NoWorkers, Wave, WorkerMessage, WorkerSource
from loraloom.workers.file_post import FilePost
from loraloom.workers.file_workers import FileWorkers
from loraloom.workers.ray_options import RayOptions
from loraloom.workers.wave_files import FOLDER

CAPACITY = 20
SPACE = "lr: {low: 1.0e-5, high: 3.0e-3, log: true}\nweight_decay: {low: 0.0, high: 0.1}\n"
RECIPE = {
    "model_name_or_path": "starter",
    "data": {"train": "starter", "max_source_length": 64, "max_target_length": 32},
    "lora": {"r": 1, "target_modules": ["q"], "layers_to_transform": [0]},
    "training": {"max_steps": 100, "eval_strategy": "steps", "eval_steps": 25, "save_strategy": "no"},
    "device": "cpu",
}


def trained(wave: Wave) -> WorkerMessage:
    """Return a wave at its first break, or at its end."""
    state = read_state(wave.files, Path())
    recipe = parse_recipe(wave.recipe, name="recipe.yaml")
    rates = {each.name: each.training.learning_rate for each in recipe.resolved_experiments}
    steps = [step for own in wave.breaks.values() for step in own] or [100]
    for name, progress in state.progress.items():
        progress.step = min(steps)
        progress.best_step, progress.best_metric = progress.step, abs(math.log10(rates[name]) + 3.5)
        if progress.step >= 100:
            progress.status = "done"
    return WorkerMessage("end", wave.number, files=dict(state_files(state)))


class StubWorker:
    """A worker that has each wave done when it is asked."""

    loss = ""

    def __init__(self, name: str) -> None:
        self.name, self.capacity = name, CAPACITY
        self._wave: Wave | None = None

    def start(self, wave: Wave) -> None:
        """Take a wave."""
        self._wave = wave

    def messages(self) -> Sequence[WorkerMessage]:
        """Return the wave, if there is one."""
        wave, self._wave = self._wave, None
        return () if wave is None else [trained(wave)]

    def recall(self) -> None:
        """Nothing to do: the wave is done."""

    def dismiss(self) -> None:
        """Nothing to do."""


class StubWorkers(NoWorkers):
    """A number of stubs, which are there at once."""

    def __init__(self, number: int) -> None:
        self._number = number

    def newcomers(self) -> Sequence[StubWorker]:
        """Return all of them, once."""
        number, self._number = self._number, 0
        return [StubWorker(f"stub {i}") for i in range(number)]


def join(run: Path, number: int) -> None:
    """Take part in a run with a number of stubs, each in a thread, until they are dismissed."""
    while not (run / LOCK_FILE).is_file():
        time.sleep(0.1)

    def work(name: str) -> None:
        post = FilePost(run / FOLDER / name, name, StopRequest())
        post.ready(CAPACITY, "cpu")
        while (wave := post.receive()) is not None:
            post.send(trained(wave))
        post.close()

    threads = [threading.Thread(target=work, args=(f"stub-{i}",)) for i in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def anonymous_mib() -> float:
    """Return the memory of this process that no file has."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["RssAnon"].split()[0]) / 1024


class Progress:
    """Prints a line at every tenth of the trials."""

    def __init__(self, num_trials: int) -> None:
        self.every, self.num, self.began = max(1, num_trials // 10), 0, time.monotonic()

    def __call__(self, event: Event) -> None:
        """Count trials."""
        if isinstance(event, TrialStart):
            self.num += 1
            if self.num % self.every == 0:
                line = {"trials": self.num, "seconds": round(time.monotonic() - self.began, 1)}
                line |= {"anonymous_mib": round(anonymous_mib()), "load": round(os.getloadavg()[0], 1)}
                print(json.dumps(line), flush=True)


def main() -> None:
    """Schedule the trials."""
    parser = argparse.ArgumentParser(description="Thousands of trials on workers that train nothing.")
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=50)
    parser.add_argument("--sampler", default="random")
    parser.add_argument("--join", action="store_true")
    asked = parser.parse_args()

    def workers(run: Run, *_: object) -> WorkerSource:
        if not asked.join:
            return StubWorkers(asked.workers)
        multiprocessing.get_context("spawn").Process(target=join, args=(run.folder, asked.workers)).start()
        return FileWorkers(run)

    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch("loraloom.search.driver.export"),
        mock.patch.object(command, "workers_of", side_effect=workers),
        mock.patch.object(RayOptions, "require_cluster"),  # the stubs need none
    ):
        path = Path(folder) / "recipe.yaml"
        path.write_text(json.dumps(RECIPE), encoding="utf-8")
        recipe = read_recipe(path)
        space = parse_space(SPACE, name="space.yaml", recipe=recipe)
        request = make_request(recipe, space, num_trials=asked.trials, sampler=asked.sampler, halving=True)
        watch = Progress(asked.trials)
        found = command.search(request, out=Path(folder) / "run", ray=RayOptions(), report=watch)
        ended = [trial for trial in found.ledger.trials if trial.has_ended]
        assert len(ended) == len({trial.name for trial in ended}) == asked.trials
        print(f"{len(ended)} trials have ended after {time.monotonic() - watch.began:.0f} s")


if __name__ == "__main__":
    main()
