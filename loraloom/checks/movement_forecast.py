"""Prediction of how far training will move the base, from one backward pass and the schedule.

With B = 0 at the start, ΔW = s B A and the rows of A nearly orthogonal,

    ‖ΔW‖² = s² ‖B‖² ‖A‖² / r,        ‖A‖² = r / 3 at the start (uniform in ±1/√in)

so the open question is how far an element of B moves. AdamW moves it by about the learning rate η per
step, whatever the size of the gradient (Kingma & Ba, 2014, https://arxiv.org/abs/1412.6980, section 2.1),
so what matters is which share of the steps adds up.

*While much remains to be learnt*, that depends on how far the rows agree. In units of the mean square of
one row's gradient, the square of the mean gradient of n rows is

    q(n) = c + (1 − c) / n

where c, their agreement, is what all rows have in common. A step is as long as its own gradient, of
n = batch rows; what adds up is the gradient of all rows that training sees. So the distance is Σ η α with
α = √(q(rows seen) / q(batch)). Rows that recur in a later epoch count once, because they repeat their path.

*Once the loss is learnt*, nothing is left to add up. The loss falls by Σ|g| per unit of distance at first
and cannot fall below zero; in a quadratic bowl that takes a distance of T = 2 · loss / Σ|g|, and the rest
of the gradient decays as e^{−Ση / T}. Steps then keep their length but have random directions: a random
walk of length √(Σ η²). (Few of B's many directions are steep, so nothing pulls the walk back.)

`benchmarks/movement.py` compares prediction and measurement; docs/checks.md has its table.
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
from loraloom.text.message import Message
from loraloom.text.units import percent
from loraloom.training.timetable import Timetable, learning_rate

NUM_ROWS = 8
PROBE_RANK = 4
# Maximum number of pieces in which a schedule is followed.
NUM_PIECES = 1000
# Below it few answers change; at a usual rate, the table of docs/article.md shows 3.6 and 4.3 %.
LITTLE, USUAL = 0.01, 0.03
# `python -m benchmarks.movement --too-far`: 7.9 % reduced eval loss by 1.75 nats, 42 % by only 0.69.
FAR = 0.3
LOWEST_RATE, HIGHEST_RATE = 1e-8, 1.0
NOTHING = 1e-9  # nats; avoids a division by zero if the loss is already learnt
WHAT_IT_TAKES = Message("On the starter 0.034 % changed 1 answer of 100, and 0.33 % changed 26")
# Half a unit in its last place is 0.2 to 0.4 % of a weight.
ROUNDED = Message("bfloat16 rounds most of the change away")


@dataclass(frozen=True)
class Signal:
    """Statistics of the gradients of single rows for an adapter at its start.

    Args:
        loss: loss of the base, in nats per label token.
        agreement: agreement of the rows, c above: 0 if their gradients have nothing in common, 1 if they
            are equal.
        slope: Σ|g| of one row over all of B, per rank and unit of scaling.
    """

    loss: float
    agreement: float
    slope: float

    def common(self, num_rows: int) -> float:
        """Return q(n) above: the square of the mean gradient of `num_rows` rows, relative to that of one."""
        return self.agreement + (1 - self.agreement) / num_rows


@dataclass(frozen=True)
class Forecast:
    """Prediction of how far one experiment will move the base.

    Args:
        timetable: its schedule.
        signal: signal of its targets.
        targets: linears that it adapts.
        weight: ‖W‖ over them.
    """

    timetable: Timetable
    signal: Signal
    targets: Sequence[Target]
    weight: float

    def movement(self, peak_rate: float | None = None) -> float:
        """Predict ‖ΔW‖ / ‖W‖ at the end of training, at the experiment's peak learning rate or another.

        Not finite if the base's loss is not finite or all its weights are zero.
        """
        lora, way = self.timetable.experiment.lora, self.displacement(peak_rate)
        squares = 0.0
        for target in self.targets:
            # A moves as far as B, unless B has a higher rate.
            of_A = lora.r * (1 / 3 + target.linear.in_features * (way / rate_ratio(lora)) ** 2)
            squares += target.linear.out_features * way**2 * of_A
        return lora.scaling * math.sqrt(squares) / self.weight if self.weight else math.inf

    def displacement(self, peak_rate: float | None = None) -> float:
        """Predict the root mean square displacement of the elements of B."""
        lora, training = self.timetable.experiment.lora, self.timetable.experiment.training
        total_steps, per_step = self.timetable.total_steps, self.timetable.examples_per_step
        num_rows = self.timetable.num_examples
        of_seen = self.signal.common(min(num_rows, total_steps * per_step))
        of_step = self.signal.common(min(num_rows, per_step))
        aligned = of_seen / of_step  # α² above
        slope = self.signal.slope * lora.r * lora.scaling * of_seen / math.sqrt(of_step)
        to_learn = 2 * max(self.signal.loss, NOTHING) / slope if slope else math.inf  # T above
        factor = 1.0 if peak_rate is None else peak_rate / training.learning_rate
        factor *= rate_ratio(lora)
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
        """Return the peak learning rate, to one digit, that gives this movement; None if none does."""
        low, high = LOWEST_RATE, HIGHEST_RATE
        if self.movement(high) < movement:
            return None
        while high / low > 1.05:
            middle = math.sqrt(low * high)
            low, high = (middle, high) if self.movement(middle) < movement else (low, middle)
        return float(f"{high:.0e}")


def rate_ratio(lora: LoraSettings) -> float:
    """Return the learning rate of B relative to that of A, which LoRA+ raises."""
    return lora.loraplus_lr_ratio or 1.0


def forecast(base: Base, experiments: Sequence[Experiment], train_set: EncodedSet) -> dict[str, Forecast]:
    """Predict how far each experiment will move the base, unless it continues from an adapter.

    Experiments that target the same linears share one backward pass: rank, scale, rate and schedule are
    accounted for.

    Args:
        base: frozen, without attached adapters.
        experiments: experiments to train.
        train_set: encoded training rows.
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
    """Choose rows of all lengths but the longest; fewer if a training pass could not hold that many."""
    order = (examples.source_lengths + examples.target_lengths).argsort(kind="stable")
    rows = [examples[int(order[len(order) * (2 * place + 1) // (2 * number + 2)])] for place in range(number)]
    if number <= 2 or sum(len(row.input_ids) + len(row.labels) for row in rows) <= most_tokens:
        return rows
    return _spread(examples, number // 2, most_tokens)


def _measure(bank: AdapterBank, lora: LoraSettings, rows: Sequence[EncodedExample]) -> Signal:
    """Compute the gradients of B row by row in one backward pass, with a separate slot for each row."""
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
    """Compute how much the gradients of rows agree, each element on its own scale, as AdamW sees it.

    For n numbers g, (Σg)² / Σg² averages 1 if their signs are random, and is n if all are equal.

    Args:
        gradients: tensors [rows, …].

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
    """Check that training will move the base enough to change its answers, but not too far."""
    fresh = [each for each in gate.distinct_experiments if each.name not in gate.initial]
    forecasts = forecast(gate.base, fresh, gate.train_set)
    dtype = gate.base.model.dtype
    # Values that are not finite are reported by the check `loss`.
    return [_finding(each, dtype) for each in forecasts.values() if math.isfinite(each.movement())]


def _finding(predicted: Forecast, dtype: torch.dtype) -> Finding:
    experiment, moved = predicted.timetable.experiment, predicted.movement()
    rate = experiment.training.learning_rate
    where = Message("{group}: training.learning_rate", group=experiment.group)
    prediction = Message(
        "‖ΔW‖/‖W‖ {moved} after {total_steps:,} steps at {rate:g}",
        moved=percent(moved),
        total_steps=predicted.timetable.total_steps,
        rate=rate,
    )
    if moved < HARDLY_MOVED:
        when = (
            Message("and the base computes in it")
            if dtype == torch.bfloat16
            else Message("if you merge into it")
        )
        message = Message(
            "this will barely move the model: predicted {prediction}. {what_it_takes}. {rounded}, {when}",
            prediction=prediction,
            what_it_takes=WHAT_IT_TAKES,
            rounded=ROUNDED,
            when=when,
        )
        return Finding("warning", "movement", where, message, _raise_rate(predicted))
    if moved > FAR:
        message = Message(
            "this may destroy the base's abilities: predicted {prediction}", prediction=prediction
        )
        fix = Message("Lower training.learning_rate or lora.lora_alpha.")
        return Finding("warning", "movement", where, message, fix)
    if moved < LITTLE:
        message = Message("this will move the model little: predicted {prediction}", prediction=prediction)
        return Finding("note", "movement", where, message, _raise_rate(predicted))
    return Finding("ok", "movement", where, Message("predicted {prediction}", prediction=prediction))


def _raise_rate(predicted: Forecast) -> str:
    rate = predicted.rate_for(USUAL)
    if rate is None:
        return Message("No learning rate is enough for so few steps; train longer.")
    return Message(
        "Raise training.learning_rate to about {rate:g} (predicted {usual}), or train longer. "
        "LoRA is usually trained at 1e-4 and above.",
        rate=rate,
        usual=percent(USUAL),
    )
