"""The overfitting test of `check --deep`: whether experiments can memorize one batch, and if not, why.

An experiment that cannot overfit one batch will not learn a thousand. Together with each experiment,
variants of it are tried at usual learning rates, with its own targets and with all linears as targets. Which
of these learn shows whether the learning rate, the targets or the data are the cause.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from loraloom.bank.bank import AdapterBank
from loraloom.checks.finding import Finding, Level
from loraloom.checks.gate import Gate
from loraloom.data.encoding import EncodedSet
from loraloom.data.ownership import BASE, seed_for
from loraloom.data.timetable import Timetable
from loraloom.evaluate.loss import eval_losses
from loraloom.forecast.plan import make_plan
from loraloom.recipe import Experiment, GenerationSettings, LoraSettings
from loraloom.recipe.module_names import ALL_LINEAR
from loraloom.run.events import Evaluation, Event
from loraloom.text.message import Message
from loraloom.training.loop import train
from loraloom.training.setup import Setup, scratch_run
from loraloom.training.state import TrainingState

NUM_STEPS = 60
NUM_ROWS = 8
NUM_EXPERIMENTS = 6
# T5 was fine-tuned at the first (Raffel et al., 2020); small models need more.
USUAL_RATES = (1e-3, 1e-2)
# Nats per token; a lower loss counts as memorized. The starter reaches 0.02 at 1e-3 and 0.4 at 1e-4.
BY_HEART = 0.5
# Share by which the initial loss has fallen: for any learning, and for learning well.
LEARNING, WELL_ON = 0.1, 0.5


@dataclass(frozen=True)
class RateTrial:
    """One attempt to memorize the batch, and its result.

    Args:
        rate: learning rate, which stays constant.
        before: loss of the base on the batch, in nats per token.
        after: loss after the steps; inf if the loss, a gradient or a weight was not finite.
    """

    rate: float
    before: float
    after: float

    @property
    def share(self) -> float:
        """How far the loss fell, as a share of the initial loss; negative if it rose."""
        return 1 - self.after / self.before

    @property
    def has_learnt(self) -> bool:
        """Whether the batch was memorized."""
        return self.after <= BY_HEART


@dataclass(frozen=True)
class Attempt:
    """Trials of an experiment and of its variants.

    Args:
        own: the experiment with its own targets and learning rate.
        usual: the best trial with its own targets at a usual learning rate.
        wide: the best trial with all linears as targets at a usual learning rate.
    """

    own: RateTrial
    usual: RateTrial
    wide: RateTrial


def check_learning(gate: Gate) -> list[Finding]:
    """Check that one batch can be overfitted; takes a few hundred steps, so only `--deep` runs it."""
    chosen = gate.distinct_experiments
    batch = _first_batch(gate, chosen[0])
    before = eval_losses(AdapterBank(gate.base), [BASE], batch, batch_size=len(batch))[BASE]
    if before <= BY_HEART:
        message = Message(
            "the base has already memorized the first batch: its loss is {before:.2f}", before=before
        )
        return [
            Finding("note", "learning", "data", message, Message("Check whether there is anything to learn."))
        ]
    ways = {each.group: _ways(each) for each in chosen[:NUM_EXPERIMENTS]}
    after = _train(gate, {way.name: way for each in ways.values() for way in each}, batch)

    def tried(way: Experiment) -> RateTrial:
        return RateTrial(way.training.learning_rate, before, after.get(way.name, float("inf")))

    findings = [
        diagnose(name, _attempt([tried(way) for way in each]), len(batch)) for name, each in ways.items()
    ]
    if left_out := len(chosen) - len(ways):
        message = Message(
            "only the first {num_ways} experiments were tried; {left_out} more were not",
            num_ways=len(ways),
            left_out=left_out,
        )
        findings.append(Finding("note", "learning", "experiments", message))
    return findings


def _first_batch(gate: Gate, experiment: Experiment) -> EncodedSet:
    """Return the rows of the first micro-batch of training, at most `NUM_ROWS`."""
    rows = Timetable(experiment, len(gate.train_set)).micro_batches(0)[0][:NUM_ROWS]
    chosen = [gate.train_set[row] for row in rows]
    return EncodedSet([e.input_ids.tolist() for e in chosen], [e.labels.tolist() for e in chosen])


WIDE: dict[str, object] = {
    "target_modules": ALL_LINEAR,
    "layers_to_transform": None,
    "layers_pattern": None,
    "init_adapter": None,
}


def _ways(experiment: Experiment) -> list[Experiment]:
    """List the runs to try: the experiment, then its targets and then all linears, at each usual rate."""
    own = experiment.lora
    wide = own.model_copy(update=WIDE)
    ways = [(own, experiment.training.learning_rate)]
    ways += [(lora, rate) for lora in (own, wide) for rate in USUAL_RATES]
    return [_way(experiment, lora, rate) for lora, rate in ways]


def _way(experiment: Experiment, lora: LoraSettings, rate: float) -> Experiment:
    """Define a short training run on the batch alone; runs with equal settings get the same name."""
    training = experiment.training.model_copy(
        update={
            "learning_rate": rate,
            "max_steps": NUM_STEPS,
            "warmup_steps": 0,
            "lr_scheduler_type": "constant",
            "per_device_train_batch_size": NUM_ROWS,
            "gradient_accumulation_steps": 1,
            "weight_decay": 0.0,
            "base_dropout": 0.0,
            "eval_strategy": "steps",
            "eval_steps": NUM_STEPS,
            "save_strategy": "no",
            "save_steps": None,
            "metric_for_best_model": "eval_loss",
            "early_stopping_patience": None,
            "max_forgetting": None,
        }
    )
    lora = lora.model_copy(update={"lora_dropout": 0.0})
    name = str(seed_for(0, lora.model_dump_json(), training.model_dump_json()))
    return replace(experiment, name=name, lora=lora, training=training)


def _train(gate: Gate, ways: dict[str, Experiment], batch: EncodedSet) -> dict[str, float]:
    """Train all runs and return their final losses by name; a run that did not stay finite is omitted."""
    bank, experiments = AdapterBank(gate.base), list(ways.values())
    plan = make_plan(experiments, gate.base, batch)
    starts = {e.group: gate.initial[e.name] for e in gate.experiments if e.name in gate.initial}
    losses: dict[str, float] = {}

    def note(event: Event) -> None:
        if isinstance(event, Evaluation):
            losses[event.experiment] = event.figures["eval_loss"]

    with scratch_run() as run:
        setup = Setup(
            bank=bank,
            experiments=experiments,
            waves=plan.waves,
            initial={name: starts[way.group] for name, way in ways.items() if way.lora.init_adapter},
            train_set=batch,
            eval_set=batch,
            shared=experiments[0].training,
            generation=GenerationSettings(),
            run=run,
            **plan.sizes,
        )
        train(setup, TrainingState.at_start(list(ways)), note)
    return losses


def _attempt(trials: Sequence[RateTrial]) -> Attempt:
    own, *siblings = trials
    usual, wide = siblings[: len(USUAL_RATES)], siblings[len(USUAL_RATES) :]
    return Attempt(own, _best(usual), _best(wide))


def _best(trials: Sequence[RateTrial]) -> RateTrial:
    """Return the trial that memorized the batch at the lowest rate, or else the one with the lowest loss."""
    return next((trial for trial in trials if trial.has_learnt), min(trials, key=_after))


def _after(trial: RateTrial) -> float:
    return trial.after


def diagnose(name: str, attempt: Attempt, num_rows: int) -> Finding:
    """Conclude from the trials on one batch that an experiment learns, or what most likely prevents it.

    Args:
        name: name of the experiment.
        attempt: trials of the experiment and of its variants.
        num_rows: number of rows in the batch.
    """
    own = attempt.own
    change = f"{own.before:.2f} → {own.after:.2f}"
    tried = Message(
        "one batch of {num_rows} rows, {num_steps} steps at {rate:g}: loss {change}",
        num_rows=num_rows,
        num_steps=NUM_STEPS,
        rate=own.rate,
        change=change,
    )
    if own.has_learnt:
        return Finding("ok", "learning", name, tried)
    if attempt.usual.has_learnt:
        level, cause, fix = _blame_rate(attempt)
    elif attempt.wide.has_learnt:
        level, cause, fix = _blame_targets(attempt)
    else:
        level, cause, fix = _blame_data(attempt)
    return Finding(level, "learning", name, Message("{tried}; {cause}", tried=tried, cause=cause), fix)


def _blame_rate(attempt: Attempt) -> tuple[Level, str, str]:
    own, usual = attempt.own, attempt.usual
    at_usual = Message("at {rate:g}, the loss falls to {after:.2f}", rate=usual.rate, after=usual.after)
    if own.rate >= usual.rate:
        cause = Message("the learning rate is probably too high: {at_usual}", at_usual=at_usual)
        return "warning", cause, Message("Lower training.learning_rate towards {rate:g}.", rate=usual.rate)
    if own.share >= LEARNING:
        fix = Message("This is fine for a long training run; for a short one, raise training.learning_rate.")
        return "note", Message("the experiment learns slowly: {at_usual}", at_usual=at_usual), fix
    cause = Message("the learning rate is probably too low: {at_usual}", at_usual=at_usual)
    return "warning", cause, Message("Raise training.learning_rate towards {rate:g}.", rate=usual.rate)


def _blame_targets(attempt: Attempt) -> tuple[Level, str, str]:
    usual, wide = attempt.usual, attempt.wide
    cause = Message(
        "the targets are the likely cause: with them, the loss falls to {after:.2f} at {rate:g}; with all "
        "linears, to {after_2:.2f} at {rate_2:g}",
        after=usual.after,
        rate=usual.rate,
        after_2=wide.after,
        rate_2=wide.rate,
    )
    return "warning", cause, Message("Add modules to lora.target_modules.")


def _blame_data(attempt: Attempt) -> tuple[Level, str, str]:
    best = min(attempt.own, attempt.usual, attempt.wide, key=_after)
    cause = Message(
        "the data or the base is the likely cause: the lowest loss of all trials is {after:.2f}, at {rate:g}",
        after=best.after,
        rate=best.rate,
    )
    fix = Message("Check for sources with several answers, and whether the base knows the language.")
    return "note" if best.share >= WELL_ON else "warning", cause, fix
