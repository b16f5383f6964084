"""Prediction of the memory, time and disk space of training, before its first step."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from loraloom.base.available_memory import free_bytes, peak_used_bytes, used_bytes
from loraloom.base.quantized_linear import weight_bytes
from loraloom.base.sharding import local_part
from loraloom.data.pass_plan import Plan
from loraloom.data.timetable import Timetable
from loraloom.forecast.footprint import Counter, Phase, phases
from loraloom.forecast.largest_pass import step_tokens
from loraloom.forecast.traffic import predict_traffic
from loraloom.recipe import Experiment
from loraloom.run.documents.prediction import Disk, Memory, Pace, Prediction
from loraloom.run.events import quiet
from loraloom.training.engine import Engine, SignalReceivedError
from loraloom.training.loop import clip_gradients
from loraloom.training.memory import make_room
from loraloom.training.optimizer import gradient_norm
from loraloom.training.out_of_memory import is_out_of_memory
from loraloom.training.passes import PassTooLargeError
from loraloom.training.setup import Setup
from loraloom.training.shared_work import rank_losses
from loraloom.training.state import TrainingState

# A static pass is compiled and run, then recorded, and replayed from then on.
STATIC_STEPS = 3


def predict(setup: Setup) -> Prediction:
    """Count the bytes that training will allocate and exchange, and time one step whose result is discarded.

    The results are unaffected: all random numbers of a step are a function of seeds, and the adapters used
    for timing are removed.

    Args:
        setup: a setup with an empty bank.

    Raises:
        TrainingError: ranks share the base, and a pass does not fit in memory.
    """
    memory = predict_memory(setup)
    waves = tuple(tuple(wave) for wave in setup.waves)
    traffic = predict_traffic(setup, Counter(setup.bank, setup.train_set))
    return Prediction(waves, memory, measure_pace(setup), predict_disk(setup), traffic)


def predict_memory(setup: Setup) -> Memory:
    """Predict the peak memory of all waves: what is loaded now, plus the largest phase."""
    base = setup.bank.base
    loaded, counter = used_bytes(base.device), Counter(setup.bank, setup.train_set, setup.ranks)
    found: list[Phase] = []
    earlier: list[Experiment] = []
    for names in setup.waves:
        wave = _experiments(setup, names)
        found += phases(
            counter, wave, earlier, setup.eval_set, setup.generation, setup.pass_tokens, setup.pass_limit
        )
        earlier += wave
    largest = max(found, key=lambda phase: phase.bytes)
    return Memory(
        peak_bytes=max(peak_used_bytes(base.device), loaded + largest.bytes),
        loaded_bytes=loaded,
        base_bytes=weight_bytes(base.model, local_part),
        phase=largest.name,
        parts=dict(sorted(largest.parts.items(), key=lambda part: -part[1])),
        free_bytes=free_bytes(base.device),
        pass_limit=setup.pass_limit,
    )


def measure_pace(setup: Setup) -> Pace | None:
    """Time one step of the first wave (forward, backward and optimizer updates) on fresh adapters.

    For static passes, the last of a few steps is timed, because the first ones are slower.

    Returns:
        The duration of the step, and figures predicted from it. None if a signal arrived or memory ran out:
        training itself then finds out which experiment is the cause.
    """
    examples, names = setup.train_set, setup.waves[0]
    engine = Engine(setup, TrainingState.at_start(list(names)), quiet)
    try:
        for name in names:
            engine.trainees.append(engine.join(name))
        plans = [t.timetable.micro_batches(_middling_step(setup, t.timetable)) for t in engine.trainees]
        for _ in range(1 if setup.static_passes is None else STATIC_STEPS):
            started = time.perf_counter()
            losses = _losses(engine, plans)
            if losses is None:
                return None
            for trainee in engine.trainees:
                updated = trainee.optimizer.updated
                clip_gradients(updated, gradient_norm(updated), trainee.experiment.training.max_grad_norm)
                trainee.optimizer.step()
            losses.tolist()  # wait for the GPU
            seconds = time.perf_counter() - started
    except SignalReceivedError:
        return None
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        return None
    finally:
        if setup.static_passes is not None:
            setup.static_passes.clear()
        for slot in setup.bank.slots:
            setup.bank.drop(slot)
    lengths = examples.source_lengths + examples.target_lengths
    rate = sum(int(lengths[rows].sum()) for plan in plans for rows in plan) / seconds
    timetables = [Timetable(experiment, len(examples)) for experiment in setup.experiments]
    epochs = [timetable.total_steps / timetable.steps_per_epoch for timetable in timetables]
    a_pass = float(lengths.sum()) / rate
    return Pace(seconds, rate, a_pass * len(names), a_pass * sum(epochs))


def _losses(engine: Engine, plans: Sequence[Plan]) -> Tensor | None:
    """Compute the losses of a step in passes that fit in memory; return None if a single row is too large."""
    while True:
        try:
            return rank_losses(engine, engine.trainees, plans)
        except PassTooLargeError as error:
            too_large = error.each
        if too_large.num_rows == 1:
            return None
        make_room(engine, engine.trainees, too_large)


def predict_disk(setup: Setup) -> Disk:
    """Predict the size of a checkpoint: adapters, their best states, and the optimizers' two moments."""
    counter = Counter(setup.bank, setup.train_set)
    size = sum(map(counter.checkpoint_bytes, setup.experiments))
    return Disk(size, setup.shared.save_total_limit, free_disk_bytes(setup.run.folder))


def free_disk_bytes(folder: Path) -> int:
    """Return the free space of the disk that a folder is on, or would be on."""
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    return shutil.disk_usage(there).free


def _experiments(setup: Setup, names: Sequence[str]) -> list[Experiment]:
    by_name = {experiment.name: experiment for experiment in setup.experiments}
    return [by_name[name] for name in names]


def _middling_step(setup: Setup, timetable: Timetable) -> int:
    """Find the step whose rows have the median number of tokens."""
    tokens = step_tokens(timetable, setup.train_set.source_lengths + setup.train_set.target_lengths)
    return int(np.argsort(tokens.sum(1), kind="stable")[len(tokens) // 2])
