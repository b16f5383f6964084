"""How far training will move the base, predicted from one backward pass and the schedule.

With B = 0 at the start, ΔW = s B A and the rows of A nearly orthogonal,

    ‖ΔW‖² = s² ‖B‖² ‖A‖² / r,        ‖A‖² = r / 3 at the start (uniform in ±1/√in)

so what has to be known is how far an element of B comes. AdamW moves it by about the learning rate η a
step, whatever the gradient's size (Kingma & Ba, 2014, https://arxiv.org/abs/1412.6980, section 2.1), so
the question is how much of the steps adds up.

*As long as there is much to learn* it is decided by how far rows agree. In units of one row's mean square,
the square of the mean gradient of n rows is

    q(n) = c + (1 − c) / n

where c, their agreement, is what all rows have in common. A step is as long as its own gradient, of
n = batch rows; what adds up is the gradient of all rows that training sees. So the way is Σ η α long, with
α = √(q(rows seen) / q(batch)). Rows that come again in a later epoch are seen once: they repeat their way.

*When the loss is learnt* there is nothing left to add up. It falls by Σ|g| a unit of the way at first, and
cannot fall below zero; in a quadratic bowl that takes T = 2 · loss / Σ|g| of the way, and the rest of the
gradient decays as e^{−Ση / T}. Steps are then of one length still but of random directions: a random walk,
√(Σ η²) long. (Few of B's many directions are steep, so nothing pulls the walk back.)

`benchmarks/movement.py` sets prediction beside measurement; docs/checks.md has its table.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from loraloom.bank.bank import AdapterBank
from loraloom.bank.objective import part_losses
from loraloom.bank.ownership import Rows, shares_of
from loraloom.bank.updates.update import Update
from loraloom.base.loading import Base
from loraloom.base.targets import Target
from loraloom.checks.finding import Finding
from loraloom.checks.gate import Gate
from loraloom.data.batches import Part, collate
from loraloom.data.encoding import EncodedExample, EncodedSet
from loraloom.evaluate.movement import HARDLY_MOVED
from loraloom.forecast.plan import pass_tokens
from loraloom.recipe import Experiment, LoraSettings
from loraloom.text.units import percent
from loraloom.training.optimizer import learning_rate
from loraloom.training.state import Timetable

NUM_ROWS = 8
PROBE_RANK = 4
# A schedule is followed in so many pieces at the most.
NUM_PIECES = 1000
# Below it few answers change; at a usual rate the table of docs/article.md came to 3.6 and 4.3 %.
LITTLE, USUAL = 0.01, 0.03
# `python -m benchmarks.movement --too-far`: 7.9 % won 1.75 nats of eval loss, 42 % only 0.69 of them.
FAR = 0.3
LOWEST_RATE, HIGHEST_RATE = 1e-8, 1.0
NOTHING = 1e-9  # nats; what is learnt already has no way left, but no division by it either
WHAT_IT_TAKES = "On the starter 0.034 % changed 1 answer of 100, and 0.33 % changed 26"
# Half a unit in its last place is 0.2 to 0.4 % of a weight.
ROUNDED = "bfloat16 rounds most of it away"


@dataclass(frozen=True)
class Signal:
    """What the gradients of single rows say of an adapter that is still at its start.

    Args:
        loss: the base's, in nats a label token.
        agreement: of the rows, c above: 0 where their gradients have nothing in common, 1 where they
            are one.
        slope: Σ|g| of one row over all of B, for each rank and unit of scaling.
    """

    loss: float
    agreement: float
    slope: float

    def common(self, num_rows: int) -> float:
        """q(n) above: the square of the mean gradient of so many rows, beside that of one."""
        return self.agreement + (1 - self.agreement) / num_rows


@dataclass(frozen=True)
class Forecast:
    """How far one experiment will move the base.

    Args:
        timetable: its schedule.
        signal: of its targets.
        targets: the linears it adapts.
        weight: ‖W‖ over them.
    """

    timetable: Timetable
    signal: Signal
    targets: Sequence[Target]
    weight: float

    def movement(self, peak_rate: float | None = None) -> float:
        """‖ΔW‖ / ‖W‖ at the end of training, at the experiment's own peak learning rate or another.

        Not finite where the base's loss is not, or all its weights are zero.
        """
        lora, way = self.timetable.experiment.lora, self.displacement(peak_rate)
        squares = 0.0
        for target in self.targets:
            # A moves as far as B does.
            of_A = lora.r * (1 / 3 + target.linear.in_features * way**2)
            squares += target.linear.out_features * way**2 * of_A
        return lora.scaling * math.sqrt(squares) / self.weight if self.weight else math.inf

    def displacement(self, peak_rate: float | None = None) -> float:
        """How far an element of B comes, root mean square."""
        lora, training = self.timetable.experiment.lora, self.timetable.experiment.training
        total_steps, per_step = self.timetable.total_steps, self.timetable.examples_per_step
        num_rows = self.timetable.num_examples
        of_seen = self.signal.common(min(num_rows, total_steps * per_step))
        of_step = self.signal.common(min(num_rows, per_step))
        aligned = of_seen / of_step  # α² above
        slope = self.signal.slope * lora.r * lora.scaling * of_seen / math.sqrt(of_step)
        to_learn = 2 * max(self.signal.loss, NOTHING) / slope if slope else math.inf  # T above
        factor = 1.0 if peak_rate is None else peak_rate / training.learning_rate
        num_pieces = min(NUM_PIECES, total_steps)
        size = total_steps / num_pieces
        gone, walk = 0.0, 0.0
        for number in range(num_pieces):
            rate = factor * learning_rate(training, int((number + 0.5) * size), total_steps)
            gone += rate * size
            left = math.exp(-gone / to_learn)
            walk += rate**2 * size * (1 - aligned * left**2)
        towards = to_learn * -math.expm1(-gone / to_learn) if math.isfinite(to_learn) else gone
        return math.sqrt(aligned * towards**2 + walk)

    def rate_for(self, movement: float) -> float | None:
        """The peak learning rate at which it would move so far, to one digit; None where none does."""
        low, high = LOWEST_RATE, HIGHEST_RATE
        if self.movement(high) < movement:
            return None
        while high / low > 1.05:
            middle = math.sqrt(low * high)
            low, high = (middle, high) if self.movement(middle) < movement else (low, middle)
        return float(f"{high:.0e}")


def forecast(base: Base, experiments: Sequence[Experiment], train_set: EncodedSet) -> dict[str, Forecast]:
    """How far each experiment will move the base, if its adapter starts afresh.

    Experiments that target the same linears share one backward pass: rank, scale, rate and schedule are
    accounted for.

    Args:
        base: frozen, with no adapter attached.
        experiments: what is to be trained.
        train_set: encoded rows.
    """
    bank, rows = AdapterBank(base), _spread(train_set, NUM_ROWS, pass_tokens(base))
    signals: dict[tuple[str, ...], Signal] = {}
    norms: dict[str, float] = {}
    forecasts = {}
    for experiment in experiments:
        targets = bank.targets_of(experiment.lora)
        names = tuple(target.name for target in targets)
        if names not in signals:
            signals[names] = _measure(bank, experiment.lora, rows)
        for target in targets:
            if target.name not in norms:
                norms[target.name] = target.linear.weight_norm()
        weight = math.hypot(*(norms[name] for name in names))
        timetable = Timetable(experiment, len(train_set))
        forecasts[experiment.name] = Forecast(timetable, signals[names], targets, weight)
    return forecasts


def _spread(examples: EncodedSet, number: int, most_tokens: int) -> list[EncodedExample]:
    """Rows of all lengths but the longest; fewer where they are more than a pass of training takes."""
    order = (examples.source_lengths + examples.target_lengths).argsort(kind="stable")
    rows = [examples[int(order[len(order) * (2 * place + 1) // (2 * number + 2)])] for place in range(number)]
    if number <= 2 or sum(len(row.input_ids) + len(row.labels) for row in rows) <= most_tokens:
        return rows
    return _spread(examples, number // 2, most_tokens)


def _measure(bank: AdapterBank, lora: LoraSettings, rows: Sequence[EncodedExample]) -> Signal:
    """The gradients of B, row by row, from one backward pass: each row has a slot of its own."""
    base, slots = bank.base, [str(number) for number in range(len(rows))]
    probe = LoraSettings(
        r=PROBE_RANK, lora_alpha=PROBE_RANK, lora_dropout=0.0, target_modules=lora.target_modules
    )
    batch = collate(
        [Part(slot, [row]) for slot, row in zip(slots, rows, strict=True)],
        base.layout,
        packing=True,
    ).to(base.device)
    try:
        for slot in slots:
            bank.attach(slot, probe, seed=0)
        with bank.rows(Rows(shares_of(batch))):
            losses = part_losses(base, batch)
            (losses / losses.new_tensor(batch.num_labels)).sum().backward()
        parts = [bank.parts(slot) for slot in slots]
        gradients = [torch.stack([_gradient(part[name]) for part in parts]) for name in parts[0]]
    finally:
        for slot in bank.slots:
            bank.drop(slot)
    loss = float(losses.detach().sum()) / sum(batch.num_labels)
    return Signal(loss, agreement(gradients), sum(_slope(g) for g in gradients) / PROBE_RANK)


def _gradient(part: Update) -> Tensor:
    B = part.parameters["lora_B"]
    return torch.zeros_like(B) if B.grad is None else B.grad


def agreement(gradients: Sequence[Tensor]) -> float:
    """How much the gradients of several rows have in common, each element by its own size, as AdamW sees it.

    Of n numbers g, (Σg)² / Σg² is 1 on average where their signs are thrown, and n where all are one number.

    Args:
        gradients: [rows, …] each.

    Returns:
        The mean over all elements that have a gradient, from 0 to 1.
    """
    total, count = 0.0, 0
    for g in gradients:
        squares = g.square().sum(0)
        is_moved = squares > 0
        ratio = g.sum(0).square()[is_moved] / squares[is_moved]
        total += float((ratio - 1).sum()) / max(1, len(g) - 1)
        count += len(ratio)
    return min(1.0, max(0.0, total / max(1, count)))


def _slope(gradients: Tensor) -> float:
    return float(gradients.square().mean(0).sqrt().sum())


def check_movement(gate: Gate) -> list[Finding]:
    """Whether training will move the base enough to change its answers, and not too far."""
    fresh = [each for each in gate.distinct_experiments if each.name not in gate.initial]
    forecasts = forecast(gate.base, fresh, gate.train_set)
    dtype = gate.base.model.dtype
    # Of what is not finite the check of the loss tells.
    return [_finding(each, dtype) for each in forecasts.values() if math.isfinite(each.movement())]


def _finding(foreseen: Forecast, dtype: torch.dtype) -> Finding:
    experiment, moved = foreseen.timetable.experiment, foreseen.movement()
    rate = experiment.training.learning_rate
    where = f"{experiment.group}: training.learning_rate"
    course = f"‖ΔW‖/‖W‖ {percent(moved)} after {foreseen.timetable.total_steps:,} steps at {rate:g}"
    if moved < HARDLY_MOVED:
        when = "and the base computes in it" if dtype == torch.bfloat16 else "should you merge into it"
        message = f"this will hardly move the model: predicted {course}. {WHAT_IT_TAKES}. {ROUNDED}, {when}"
        return Finding("warning", "movement", where, message, _raise_rate(foreseen))
    if moved > FAR:
        message = f"this may destroy what the base knows: predicted {course}"
        fix = "Lower training.learning_rate or lora.lora_alpha."
        return Finding("warning", "movement", where, message, fix)
    if moved < LITTLE:
        message = f"this moves the model little: predicted {course}"
        return Finding("note", "movement", where, message, _raise_rate(foreseen))
    return Finding("ok", "movement", where, f"predicted {course}")


def _raise_rate(foreseen: Forecast) -> str:
    rate = foreseen.rate_for(USUAL)
    if rate is None:
        return "No learning rate would do in so few steps: train longer."
    return (
        f"Raise training.learning_rate to about {rate:g} (predicted {percent(USUAL)}), or train longer. "
        "LoRA is usually trained at 1e-4 and above."
    )
