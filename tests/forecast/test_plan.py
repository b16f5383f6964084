"""What a pass keeps is counted exactly; experiments wait only where memory asks for it."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch

from loraloom.bank import top_token
from loraloom.bank.bank import AdapterBank
from loraloom.base.loading import Base, load_base
from loraloom.data.batches import Batch
from loraloom.data.pass_plan import plan_passes
from loraloom.data.timetable import Timetable
from loraloom.forecast import activation_memory
from loraloom.forecast.activation_memory import PROBE, Shape, count_kept
from loraloom.forecast.footprint import Counter, Phase, phases, training_phase
from loraloom.forecast.largest_pass import MOST_CANDIDATES, largest_passes, lay_out
from loraloom.forecast.plan import USABLE_SHARE, experiment_need, make_plan, num_fitting, shared_tokens
from loraloom.recipe import Experiment, LoraSettings
from tests.families import KINDS, TWO_KINDS
from tests.parity import rig

ROWS = rig.random_rows(30, seed=4)
SETTINGS = {
    "all": LoraSettings(r=3, lora_dropout=0.1),
    "without dropout": LoraSettings(r=3, lora_dropout=0.0),
    "few targets": LoraSettings(r=5, lora_dropout=0.1, target_modules=["q", "cross:v"]),
    "norms": LoraSettings(r=3, lora_dropout=0.1, modules_to_save=["norm"]),
}


def really_kept(bank: AdapterBank, settings: LoraSettings, batch: Batch) -> int:
    bank.attach(PROBE, settings, seed=0)
    try:
        return sum(num_bytes for _, num_bytes in activation_memory._kept_tensors(bank, batch))
    finally:
        bank.drop(PROBE)


@pytest.mark.parametrize(
    ("kind", "which", "dtype"),
    [
        *((kind, "all", "float32") for kind in KINDS),
        *product(TWO_KINDS, ("without dropout", "few targets", "norms"), ("float32", "bfloat16")),
    ],
)
def test_what_a_pass_keeps_is_known_from_a_few_tokens(
    which: str, dtype: str, kind: str, tiny: Callable[[str], Path]
) -> None:
    """A count on one short row says to the byte what any other pass keeps."""
    base = load_base(str(tiny(kind)), dtype=dtype, device="cpu")
    bank, rows, settings = AdapterBank(base), [ROWS[number] for number in range(12)], SETTINGS[which]
    kept = count_kept(bank, settings)
    for packing in (True, False):
        batch = rig.batch_of(base, {PROBE: rows}, packing=packing)
        shape = lay_out({PROBE: rows}, packing=packing)[PROBE]
        assert shape == (len(batch.input_ids), batch.input_ids.shape[1], batch.labels.shape[1])
        assert kept.bytes(shape) == really_kept(bank, settings, batch)


def test_recomputing_keeps_less_but_what_goes_into_each_layer(mt5: Base) -> None:
    kept, shape = count_kept(AdapterBank(mt5), SETTINGS["all"]), Shape(4, 12, 12)
    into_layers = 4 * 4 * 12 * 32 * 4  # layers, rows, tokens, width, bytes
    assert into_layers < kept.bytes(shape, recomputed=True) < kept.bytes(shape)


def test_counting_leaves_the_base_as_it_was(mt5: Base) -> None:
    state = torch.get_rng_state()
    bank = AdapterBank(mt5)
    count_kept(bank, SETTINGS["all"])
    assert bank.slots == ()
    assert torch.equal(torch.get_rng_state(), state)
    assert all(parameter.grad is None for parameter in mt5.model.parameters())


@pytest.mark.parametrize("pass_tokens", [0, 60, 10_000])
def test_the_largest_pass_is_found_among_all(pass_tokens: int, mt5: Base) -> None:
    counter = Counter(AdapterBank(mt5), ROWS)
    wave = [
        rig.experiment("a", seed=1, per_device_train_batch_size=4, num_train_epochs=3),
        rig.experiment("b", seed=2, per_device_train_batch_size=2, gradient_accumulation_steps=3),
        rig.experiment("c", seed=3, lora={"r": 2, "target_modules": ["v"]}, num_train_epochs=2),
    ]
    timetables = [Timetable(experiment, len(ROWS)) for experiment in wave]
    tokens = []
    for step in range(max(timetable.total_steps for timetable in timetables)):
        plans = [t.micro_batches(step) for t in timetables if step < t.total_steps]
        tokens += [each.num_tokens for each in plan_passes(plans, ROWS, pass_tokens, None)]
    found = largest_passes(wave, ROWS, pass_tokens=pass_tokens, packing=True)
    assert max(each.num_tokens for each in found) == max(tokens)
    assert counter.largest_pass(wave, pass_tokens).kept_bytes > 0


def test_an_experiment_needs_more_with_rank_rows_and_targets(mt5: Base) -> None:
    counter = Counter(AdapterBank(mt5), ROWS)

    def need(**changes: object) -> tuple[int, int]:
        lora = {"r": changes.pop("r", 4), "target_modules": changes.pop("target_modules", "all-linear")}
        found = experiment_need(rig.experiment("a", lora=lora, **changes), counter)
        return found.adapter_bytes, found.activation_bytes

    usual = need(per_device_train_batch_size=4)
    assert need(per_device_train_batch_size=4, r=8)[0] == 2 * usual[0]
    assert need(per_device_train_batch_size=4, r=8)[1] > usual[1]
    assert need(per_device_train_batch_size=8)[1] > usual[1]
    assert need(per_device_train_batch_size=8)[0] == usual[0]
    fewer = need(per_device_train_batch_size=4, target_modules=["q"])
    assert fewer[0] < usual[0]
    assert fewer[1] < usual[1]


def experiments(num: int, **training: object) -> list[Experiment]:
    return [rig.experiment(f"e{number}", seed=number, **training) for number in range(num)]


def test_waves_are_as_few_as_the_budget_allows_and_in_order(mt5: Base) -> None:
    many = experiments(6)
    alone = make_plan(many[:1], mt5, ROWS, budget=0).wave_bytes
    waves = {budget: make_plan(many, mt5, ROWS, budget=budget).waves for budget in (0, 4 * alone, 10**12)}
    assert waves[0] == tuple((each.name,) for each in many)  # one alone may always try
    assert waves[10**12] == (tuple(each.name for each in many),)
    assert 1 < len(waves[4 * alone]) < 6
    assert [name for wave in waves[4 * alone] for name in wave] == [each.name for each in many]


def test_experiments_whose_passes_are_limited_share_these_and_not_whole_ones(mt5: Base) -> None:
    """A pass has no more tokens with many experiments, so only their adapters take more memory."""
    many, counter = experiments(8, per_device_train_batch_size=16), Counter(AdapterBank(mt5), ROWS)
    usable = training_phase(counter, many[:1], 0, None).bytes - 1
    plan = make_plan(many, mt5, ROWS, budget=math.ceil(usable / USABLE_SHARE))
    assert plan.pass_limit is not None
    assert plan.waves == (tuple(each.name for each in many),)
    adapters = sum(map(counter.training_bytes, many))
    largest = counter.largest_pass(many, plan.pass_tokens, plan.pass_limit)
    assert largest.num_tokens <= plan.pass_limit
    assert adapters + largest.kept_bytes <= plan.wave_bytes <= usable
    whole = counter.largest_pass(many, plan.pass_tokens)
    assert adapters + whole.kept_bytes > usable
    tokens = shared_tokens(plan.pass_tokens, plan.pass_limit)
    assert num_fitting(plan.needs["e0"], tokens, plan.free_bytes, most=8) == 8


def test_the_reason_says_what_is_needed_and_what_is_free(mt5: Base) -> None:
    together = make_plan(experiments(2), mt5, ROWS, budget=2**30).reason
    assert together == "all experiments fit in memory together: 3.1 MiB in addition to the base, 1.0 GiB free"
    assert make_plan(experiments(2), mt5, ROWS, budget=0).reason.startswith(
        "larger waves would not fit in memory"
    )


def of(found: list[Phase], name: str) -> Phase:
    return next(phase for phase in found if phase.name == name)


def test_phases_hold_what_happens_and_nothing_else(mt5: Base) -> None:
    counter, generation = Counter(AdapterBank(mt5), ROWS), rig.GenerationSettings(max_new_tokens=4)

    def found(num: int, eval_set: object = rig.NO_ROWS, **training: object) -> list[Phase]:
        return phases(counter, experiments(num, **training), [], eval_set, generation, 512)  # type: ignore[arg-type]

    assert [phase.name for phase in found(1)] == ["training"]
    everything = found(1, ROWS, save_strategy="epoch", metric_for_best_model="chrf")
    assert [phase.name for phase in everything] == ["training", "evaluation", "answers", "saving"]
    one, eight = of(found(1), "training").parts, of(found(8), "training").parts
    # Each has a weight, a gradient and two moments; those of several are also held side by side for a pass.
    assert eight["adapters"] == 8 * one["adapters"] * 5 // 4
    assert one["activations"] < eight["activations"] < 8 * one["activations"]  # a pass is bounded


def test_the_screen_of_many_greedy_answers_is_counted(mt5: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(top_token, "MIN_WEIGHTS", 1)
    monkeypatch.setattr(top_token, "screens_exactly", lambda: True)
    counter = Counter(AdapterBank(mt5), ROWS)

    def screen(metric: str, **generation: object) -> int:
        own = rig.GenerationSettings(max_new_tokens=4_096, **generation)  # type: ignore[arg-type]
        wave = experiments(1, metric_for_best_model=metric)
        return of(phases(counter, wave, [], ROWS, own, 512), "training").parts.get("head in int8", 0)

    words, width = mt5.head.weight.shape
    assert screen("chrf") == words * (width + 12)
    assert screen("eval_loss") == screen("chrf", num_beams=2) == screen("chrf", do_sample=True) == 0


def test_a_large_set_is_looked_at_in_a_moment() -> None:
    """The orders of all epochs are gone through, and only a handful of steps is laid out."""
    lengths = np.random.default_rng(0).integers(5, 60, 20_000)
    tokens = [[1] * length for length in lengths]
    many = rig.EncodedSet(tokens, tokens)
    alone = experiments(1, per_device_train_batch_size=8)
    passes = largest_passes(alone, many, pass_tokens=0, packing=True)
    timetable = Timetable(alone[0], len(many))
    steps = (timetable.micro_batches(step) for step in range(timetable.total_steps))
    assert max(each.num_tokens for each in passes) == max(2 * lengths[rows].sum() for (rows,) in steps)
    assert len(passes) <= 2 * MOST_CANDIDATES
