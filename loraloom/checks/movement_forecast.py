"""Prediction of how far training will move the base, from one backward pass and the schedule.

With B = 0 at the start, ΔW = s B A and the rows of A nearly orthogonal,

    ‖ΔW‖² = s² ‖B‖² ‖A‖² / r,        ‖A‖² = r / 3 at the start (uniform in ±1/√in)

so the open question is how far an element of B moves. AdamW moves it by about the learning rate η per
step, whatever the size of the gradient (Kingma & Ba, 2014, https://arxiv.org/abs/1412.6980, section 2.1),
so what matters is how much of these steps adds up instead of cancelling out.

*While much remains to be learnt*, that depends on how far the rows agree. In units of the mean square
of one row's gradient, the square of the mean gradient of n rows is

    q(n) = c + (1 − c) / n

where c, their agreement, is the part that all rows have in common. Each step follows the mean gradient of
its batch, but only the mean gradient of all rows that training sees adds up from step to step. So the
distance is Σ η α, where α = √(q(rows seen) / q(rows in a batch)) is the share of a step that adds up. Rows
that recur in a later epoch count once, because they pull in the same direction again.

*Once the loss is learnt*, nothing is left to add up. The loss falls by Σ|g| per unit of distance at first
and cannot fall below zero; in a quadratic bowl, it reaches zero after a distance of T = 2 · loss / Σ|g|,
and the remaining gradient decays as e^{−Ση / T}. Steps then keep their length but have random directions:
a random walk of length √(Σ η²). (In most of B's many directions the loss hardly changes, so nothing pulls
the walk back.)

`benchmarks/movement.py` compares predictions with measurements; docs/checks.md has its table.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from loraloom.bank.bank import AdapterBank
from loraloom.base.loading import Base
from loraloom.base.targets import Target
from loraloom.checks.finding import Finding
from loraloom.checks.gate import Gate
from loraloom.checks.gradient_signal import Signal, measure, spread
from loraloom.data.encoding import EncodedSet
from loraloom.data.timetable import Timetable, learning_rate
from loraloom.evaluate.movement import HARDLY_MOVED
from loraloom.forecast.plan import pass_tokens
from loraloom.recipe import Experiment, LoraSettings
from loraloom.text.message import Message
from loraloom.text.units import percent

NUM_ROWS = 8
# Maximum number of pieces in which a schedule is followed.
NUM_PIECES = 1000
# Below the first, few answers change; at a usual rate, the table of docs/article.md shows 3.3 %.
LITTLE, USUAL = 0.01, 0.03
# `python -m benchmarks.movement --too-far`: 7 % reduced eval loss by 1.79 nats, 40 % by only 0.57.
FAR = 0.3
# PiSSA and OLoRA start with a nonzero B, which multiplies A's movement: by 1.5 to 2.3, as measured.
OF_START = 2.5
LOWEST_RATE, HIGHEST_RATE = 1e-8, 1.0
NOTHING = 1e-9  # nats; avoids a division by zero if the loss is already learnt
WHAT_IT_TAKES = Message(
    "On the starter, a movement of 0.028 % changed 1 answer in 100, and one of 0.33 % changed 34"
)
# Half a unit in bfloat16's last place is 0.2 to 0.4 % of a weight.
ROUNDED = Message("bfloat16 rounds most of the change away")


@dataclass(frozen=True)
class Forecast:
    """Prediction of how far one experiment will move the base.

    Args:
        timetable: the experiment and its schedule.
        signal: statistics of the gradients in `targets`.
        targets: linears that the experiment adapts.
        weight: ‖W‖ over these linears.
    """

    timetable: Timetable
    signal: Signal
    targets: Sequence[Target]
    weight: float

    def movement(self, peak_rate: float | None = None) -> float:
        """Predict ‖ΔW‖ / ‖W‖ at the end of training, by default at the experiment's own peak learning rate.

        The result is not finite if the base's loss is not finite or all its weights are zero.
        """
        lora, way = self.timetable.experiment.lora, self.displacement(peak_rate)
        squares = 0.0
        for target in self.targets:
            # A moves as far as B, unless B has a higher rate or A is frozen.
            own = lora.at(target.name)
            way_of_A = 0.0 if lora.use_lorafa else way / rate_ratio(lora)
            of_A = own.r * (1 / 3 + target.linear.in_features * way_of_A**2)
            squares += own.scaling**2 * target.linear.out_features * way**2 * of_A
        return math.sqrt(squares) / self.weight if self.weight else math.inf

    def displacement(self, peak_rate: float | None = None) -> float:
        """Predict the root mean square displacement of the elements of B."""
        lora, training = self.timetable.experiment.lora, self.timetable.experiment.training
        total_steps, per_step = self.timetable.total_steps, self.timetable.examples_per_step
        num_rows = self.timetable.num_examples
        of_seen = self.signal.common(min(num_rows, total_steps * per_step))
        of_step = self.signal.common(min(num_rows, per_step))
        aligned = of_seen / of_step  # α² above
        parts = [lora.at(target.name) for target in self.targets]
        strength = sum(part.r * part.scaling for part in parts) / len(parts)
        slope = self.signal.slope * strength * of_seen / math.sqrt(of_step)
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
        """Return the peak rate for this movement, rounded to one digit; None if no rate is enough."""
        low, high = LOWEST_RATE, HIGHEST_RATE
        if self.movement(high) < movement:
            return None
        while high / low > 1.05:
            middle = math.sqrt(low * high)
            low, high = (middle, high) if self.movement(middle) < movement else (low, middle)
        return float(f"{high:.0e}")


def rate_ratio(lora: LoraSettings) -> float:
    """Return the learning rate of B relative to that of A: 1, unless LoRA+ sets another ratio."""
    return lora.loraplus_lr_ratio or 1.0


def forecast(base: Base, experiments: Sequence[Experiment], train_set: EncodedSet) -> dict[str, Forecast]:
    """Predict how far each experiment, which must start from a new adapter, will move the base.

    Experiments that target the same linears share one backward pass; their ranks, scalings, learning rates
    and schedules are accounted for separately.

    Args:
        base: frozen, without attached adapters.
        experiments: experiments to train.
        train_set: encoded training rows.

    Returns:
        Predictions by the name of the experiment.
    """
    bank, rows = AdapterBank(base), spread(train_set, NUM_ROWS, pass_tokens(base))
    signals: dict[tuple[str, ...], Signal] = {}
    norms: dict[str, float] = {}
    forecasts = {}
    for experiment in experiments:
        targets = bank.targets_of(experiment.lora)
        names = tuple(target.name for target in targets)
        if names not in signals:
            signals[names] = measure(bank, experiment.lora, rows)
        for target in targets:
            if target.name not in norms:
                norms[target.name] = target.linear.weight_norm()
        weight = math.hypot(*(norms[name] for name in names))
        timetable = Timetable(experiment, len(train_set))
        forecasts[experiment.name] = Forecast(timetable, signals[names], targets, weight)
    return forecasts


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
    if experiment.lora.init_lora_weights is not True:
        prediction = Message(
            "{prediction}, or up to {times} times as far with this initialization",
            prediction=prediction,
            times=OF_START,
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
