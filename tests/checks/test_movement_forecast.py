"""The predicted movement is that of training, within a factor of 3, and its words say what it means."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from loraloom.bank.bank import AdapterBank
from loraloom.bank.linear import BankLinear
from loraloom.base.loading import Base, load_base
from loraloom.checks.finding import Finding
from loraloom.checks.gate import run_gate
from loraloom.checks.gradient_signal import agreement
from loraloom.checks.movement_forecast import check_movement, forecast
from loraloom.commands.train import train
from loraloom.data.encoding import EncodedSet, encode
from loraloom.data.splitting.split import split_examples
from loraloom.evaluate.movement import movement, movement_of_tensors
from loraloom.recipe import DataSettings, Experiment, Recipe
from loraloom.session.answering_model import load_run
from tests.events import message_of
from tests.faults.warm import Warm
from tests.parity.rig import experiment, random_rows, train_all

FACTOR = 3
FEW, ALL = ["q", "v"], "all-linear"
# As in benchmarks/movement.py, whose runs are longer.
RECIPES = (
    experiment("a", lora={"r": 16, "lora_alpha": 32}, learning_rate=9.65e-7, max_steps=30),
    experiment("b", lora={"r": 16, "target_modules": FEW}, learning_rate=9.65e-6, max_steps=40),
    experiment("c", lora={"r": 8, "lora_alpha": 8}, learning_rate=1e-4, max_steps=30, warmup_steps=10),
    experiment("d", lora={"r": 4, "target_modules": FEW}, learning_rate=3e-4, max_steps=40),
    experiment("e", lora={"r": 4, "lora_alpha": 16}, learning_rate=3e-4, max_steps=30),
    experiment("f", lora={"r": 16}, learning_rate=1e-3, max_steps=30, lr_scheduler_type="cosine"),
    experiment("g", lora={"r": 32, "target_modules": FEW}, learning_rate=1e-3, max_steps=40),
    experiment("h", lora={"r": 8, "lora_alpha": 16}, learning_rate=3e-3, max_steps=30),
)


@pytest.fixture(scope="module")
def starter() -> Base:
    return load_base("starter", dtype="float32", device="cpu")


@pytest.fixture(scope="module")
def starter_rows(starter: Base) -> EncodedSet:
    """Some rows of its own data, cut short."""
    split = split_examples(DataSettings(train="starter", eval=0))
    return encode(split.train[:120], starter.tokenizer, max_source_length=12, max_target_length=6)


def assert_predicted(base: Base, rows: EncodedSet, folder: Path, *, shorter: int, **changes: Any) -> None:
    """All recipes, with a `shorter`-th of their steps, in one bank."""
    recipes = []
    for each in RECIPES:
        steps = {key: getattr(each.training, key) // shorter for key in ("max_steps", "warmup_steps")}
        fewer = each.training.model_copy(update=steps)
        recipes.append(dataclasses.replace(each, training=fewer, **changes))
    forecasts = forecast(base, recipes, rows)
    trained = train_all(base, recipes, rows, folder)
    bank, ratios = AdapterBank(base), {}
    for each in recipes:
        moved = movement_of_tensors(bank, trained.adapter(each.name), each.lora).total
        ratios[each.name] = forecasts[each.name].movement() / moved
    assert all(1 / FACTOR < ratio < FACTOR for ratio in ratios.values()), ratios


def test_the_prediction_holds_within_a_factor_of_3(
    starter: Base, starter_rows: EncodedSet, tmp_path: Path
) -> None:
    """Eight recipes from 9.65e-7 to 3e-3: rates, targets, ranks, scales, lengths, schedules."""
    assert_predicted(starter, starter_rows, tmp_path / "run", shorter=3)


def test_it_is_no_matter_of_the_starter(mt5: Base, tmp_path: Path) -> None:
    """On a random model of another shape, with random rows."""
    assert_predicted(mt5, random_rows(40, seed=3), tmp_path / "run", shorter=2, seed=5)


def movements(base: Base, rows: EncodedSet, *recipes: Experiment) -> list[float]:
    return [each.movement() for each in forecast(base, recipes, rows).values()]


def test_at_small_rates_it_follows_rate_and_scale(mt5: Base) -> None:
    rows = random_rows(20, seed=3)
    small = {"max_steps": 20, "lr_scheduler_type": "constant"}
    one, double_rate, double_scale, warmed = movements(
        mt5,
        rows,
        experiment("one", lora={"lora_alpha": 16}, learning_rate=1e-7, **small),
        experiment("rate", lora={"lora_alpha": 16}, learning_rate=2e-7, **small),
        experiment("scale", lora={"lora_alpha": 32}, learning_rate=1e-7, **small),
        experiment("warm", lora={"lora_alpha": 16}, learning_rate=1e-7, warmup_steps=20, **small),
    )
    assert double_rate == pytest.approx(2 * one, rel=1e-3)
    assert double_scale == pytest.approx(2 * one, rel=1e-3)
    assert warmed == pytest.approx(one / 2, rel=0.15)  # half of the way; its random part falls less


def test_more_of_anything_moves_further(mt5: Base) -> None:
    rows = random_rows(20, seed=3)
    few, more = ({"learning_rate": rate, "max_steps": 20} for rate in (1e-4, 1e-3))
    by_rate = movements(mt5, rows, experiment("a", **few), experiment("b", **more))
    assert by_rate == sorted(by_rate)
    by_steps = movements(
        mt5, rows, *(experiment(str(n), learning_rate=1e-3, max_steps=n) for n in (1, 5, 30, 3000))
    )
    assert by_steps == sorted(by_steps)
    assert len(set(by_steps)) == 4


def test_the_rate_for_a_movement_gives_that_movement(mt5: Base) -> None:
    (own,) = forecast(mt5, [experiment("a", max_steps=50)], random_rows(20, seed=3)).values()
    rate = own.rate_for(0.02)
    assert rate is not None
    assert own.movement(rate) == pytest.approx(0.02, rel=0.35)  # the rate has one digit
    assert own.rate_for(1e6) is None


def test_rows_that_are_one_agree_and_random_ones_do_not() -> None:
    torch.manual_seed(0)
    same, random = torch.randn(1, 4000).expand(8, -1), torch.randn(8, 4000)
    assert agreement([same]) == pytest.approx(1)
    assert agreement([random]) == pytest.approx(0, abs=0.02)
    assert 0.3 < agreement([same + random]) < 0.7
    assert agreement([torch.zeros(8, 3)]) == 0


def found(
    base: Base, *experiments: Experiment, rows: EncodedSet | None = None, **initial: Any
) -> list[Finding]:
    rows = rows or random_rows(20, seed=3)
    return run_gate(base, experiments, initial, rows, packing=True, checks=[check_movement])


def test_what_hardly_moves_is_said_with_the_rate_that_would(mt5: Base) -> None:
    slow, usual = found(
        mt5,
        experiment("slow", learning_rate=9.65e-7, max_steps=100),
        experiment("usual", learning_rate=3e-3, max_steps=100),
    )
    assert slow.level == "warning"
    assert "this will barely move the model" in slow.message
    assert "100 steps at 9.65e-07" in slow.message
    assert slow.where == "slow: training.learning_rate"
    assert "Raise training.learning_rate to about" in slow.fix
    assert usual.level == "ok"


def test_no_rate_is_named_where_none_would_do(mt5: Base) -> None:
    (finding,) = found(mt5, experiment("a", learning_rate=1e-8, max_steps=1, lora={"lora_alpha": 1e-3}))
    assert finding.fix.startswith("No learning rate is enough")


def test_what_moves_very_far_is_said(mt5: Base) -> None:
    (finding,) = found(mt5, experiment("wild", learning_rate=1.0, max_steps=200))
    assert finding.level == "warning"
    assert "may destroy the base's abilities" in finding.message


def test_seeds_share_one_line_and_adapters_that_go_on_have_none(mt5: Base) -> None:
    seeds = [Experiment(f"a@{n}", "a", *_settings(), seed=n) for n in (1, 2, 3)]
    assert len(found(mt5, *seeds)) == 1
    assert found(mt5, seeds[0], **{"a@1": {}}) == []


def _settings() -> tuple[Any, Any]:
    one = experiment("a")
    return one.lora, one.training


def test_it_leaves_the_base_as_it_was(mt5: Base) -> None:
    found(mt5, *RECIPES)
    assert not any(isinstance(module, BankLinear) for module in mt5.model.modules())
    assert all(parameter.grad is None for parameter in mt5.model.parameters())


def test_one_row_is_enough(mt5: Base) -> None:
    (finding,) = found(mt5, experiment("a"), rows=EncodedSet([[5, 1]], [[6, 7, 1]]))
    assert "‖ΔW‖/‖W‖" in finding.message


def test_the_article_is_told_that_its_third_recipe_hardly_moves_the_model(warm: Warm, tmp_path: Path) -> None:
    ended = warm.call("check", "article-starter", "--json", cwd=tmp_path)
    assert ended.code == 0, ended.stderr
    movements = [each for each in json.loads(ended.stdout)["findings"] if each["check"] == "movement"]
    said = {each["where"].partition(":")[0]: each for each in movements}
    assert "this will barely move the model" in said["all-targets-slow"]["message"]
    assert said["all-targets-slow"]["level"] == "warning"
    assert said["all-targets-usual"]["level"] == said["few-targets-usual"]["level"] == "ok"


def test_at_the_end_of_training_the_movement_is_kept_and_next_to_none_is_said(
    tiny: Callable[[str], Path], tmp_path: Path
) -> None:
    rows = [{"instruction": f"how {n}", "output": f"so {n * 7 % 10}"} for n in range(12)]
    (tmp_path / "rows.json").write_text(json.dumps(rows), encoding="utf-8")
    rates = {"slow": 1e-6, "usual": 1e-2}
    recipe = Recipe.model_validate(
        {
            "model_name_or_path": str(tiny("mt5")),
            "data": {"train": "rows.json", "eval": 4},
            "lora": {"r": 4},
            "training": {"num_train_epochs": 2, "per_device_train_batch_size": 4, "save_strategy": "no"},
            "experiments": {name: {"training": {"learning_rate": rate}} for name, rate in rates.items()},
            "device": "cpu",
        }
    )
    said: list[str] = []
    outcome = train(
        recipe.in_folder(tmp_path),
        out=tmp_path / "run",
        report=lambda event: said.append(message_of(event)),
    )
    moved = {name: entry.movement for name, entry in outcome.result.experiments.items()}
    assert moved["slow"] < 1e-3 < moved["usual"]
    loaded = load_run(outcome.run.folder)
    assert moved["usual"] == pytest.approx(movement(loaded.bank, "usual").total, rel=1e-4)
    hardly = [message for message in said if "is almost identical to its base" in message]
    assert len(hardly) == 1
    assert hardly[0].startswith("slow ")
    assert hardly[0].endswith("its learning rate was 1e-06")


def test_of_a_base_whose_loss_is_not_finite_nothing_is_predicted(mt5: Base) -> None:
    weight = mt5.model.get_submodule("decoder.final_layer_norm").weight
    original = weight.clone()
    try:
        with torch.no_grad():
            weight[0] = torch.nan
        assert found(mt5, experiment("a")) == []
    finally:
        with torch.no_grad():
            weight.copy_(original)


def test_what_moves_little_is_a_note(mt5: Base) -> None:
    (finding,) = found(mt5, experiment("a", learning_rate=1e-4, max_steps=20))
    assert finding.level == "note"
    assert "will move the model little" in finding.message


@pytest.mark.parametrize(
    ("dtype", "said"), [("float32", "if you merge into it"), ("bfloat16", "the base computes in it")]
)
def test_what_bfloat16_does_to_so_little_is_said(tiny: Callable[[str], Path], dtype: str, said: str) -> None:
    base = load_base(str(tiny("mt5")), dtype=dtype, device="cpu")
    (finding,) = found(base, experiment("slow", learning_rate=9.65e-7, max_steps=100))
    assert "bfloat16 rounds most of the change away" in finding.message
    assert finding.message.endswith(said)


def test_long_rows_are_fewer_so_that_the_pass_is_no_larger_than_trainings(
    mt5: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    attached: list[str] = []
    attach = AdapterBank.attach

    def counted(self: AdapterBank, slot: str, *args: Any, **kwargs: Any) -> None:
        attached.append(slot)
        attach(self, slot, *args, **kwargs)

    monkeypatch.setattr(AdapterBank, "attach", counted)
    found(mt5, experiment("a"))
    assert len(attached) == 8
    attached.clear()
    monkeypatch.setattr("loraloom.checks.movement_forecast.pass_tokens", lambda base: 1)
    found(mt5, experiment("a"))
    assert len(attached) == 2


def test_a_frozen_a_does_not_move_and_other_starts_move_further(mt5: Base) -> None:
    rows = random_rows(20, seed=3)
    far = {"learning_rate": 3e-2, "max_steps": 20}
    plain, frozen = movements(
        mt5, rows, experiment("plain", **far), experiment("frozen", lora={"use_lorafa": True}, **far)
    )
    assert frozen < 0.9 * plain
    (said,) = run_gate(
        mt5,
        [experiment("main", lora={"r": 4, "init_lora_weights": "olora"}, learning_rate=1e-3, max_steps=20)],
        {},
        rows,
        packing=True,
        checks=[check_movement],
    )
    assert "up to 2.5 times as far with this initialization" in said.message
