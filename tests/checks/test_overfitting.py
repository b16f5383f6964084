"""One batch can be learnt by heart, or the likely cause is named."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from loraloom.bank.linear import BankLinear
from loraloom.base.loading import Base, load_base
from loraloom.checks import overfitting
from loraloom.checks.finding import Finding
from loraloom.checks.gate import run_gate
from loraloom.checks.overfitting import Attempt, RateTrial, check_learning, diagnose
from loraloom.data.encoding import EncodedSet, encode
from loraloom.data.splitting.split import split_examples
from loraloom.recipe import DataSettings, Experiment
from tests.parity.rig import experiment, random_rows

BEFORE = 8.0


def attempt(own: float, usual: float, wide: float, rate: float = 1e-5) -> Attempt:
    """By the losses that the three ways come to."""
    return Attempt(
        RateTrial(rate, BEFORE, own), RateTrial(1e-3, BEFORE, usual), RateTrial(1e-3, BEFORE, wide)
    )


@pytest.mark.parametrize(
    ("tried", "level", "said", "fix"),
    [
        (attempt(own=0.5, usual=0.4, wide=0.3), "ok", "loss 8.00 → 0.50", ""),
        (attempt(own=6.0, usual=0.4, wide=0.3), "note", "learns slowly: at 0.001", "This is fine"),
        (attempt(own=7.9, usual=0.4, wide=0.3), "warning", "probably too low: at 0.001", "Raise"),
        (attempt(own=9.0, usual=0.4, wide=0.3, rate=0.5), "warning", "probably too high", "Lower"),
        (attempt(own=math.inf, usual=0.4, wide=0.3, rate=5), "warning", "loss 8.00 → inf", "Lower"),
        (attempt(own=7.9, usual=7.0, wide=0.3), "warning", "targets are the likely cause", "Add modules"),
        (attempt(own=7.9, usual=7.0, wide=6.0), "warning", "data or the base is the likely cause", "Check"),
        (attempt(own=7.9, usual=3.0, wide=2.0), "note", "the lowest loss of all trials is 2.00", "Check"),
    ],
)
def test_what_learns_beside_it_tells_the_cause(tried: Attempt, level: str, said: str, fix: str) -> None:
    finding = diagnose("main", tried, num_rows=5)
    assert (finding.level, finding.check, finding.where) == (level, "learning", "main")
    assert said in finding.message
    assert finding.fix.startswith(fix)


@pytest.fixture(scope="module")
def starter() -> Base:
    return load_base("starter", dtype="float32", device="cpu")


@pytest.fixture(scope="module")
def rows(starter: Base) -> EncodedSet:
    split = split_examples(DataSettings(train="starter", eval=0))
    return encode(split.train[:40], starter.tokenizer, max_source_length=12, max_target_length=6)


@pytest.fixture
def four_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Train on a few rows at one rate; fewer steps are enough to memorize them."""
    monkeypatch.setattr(overfitting, "NUM_ROWS", 4)
    monkeypatch.setattr(overfitting, "NUM_STEPS", 20)
    monkeypatch.setattr(overfitting, "USUAL_RATES", (1e-3,))


def found(base: Base, rows: EncodedSet, *experiments: Experiment) -> list[Finding]:
    return run_gate(base, experiments, {}, rows, packing=True, checks=[check_learning])


@pytest.mark.usefixtures("four_rows")
def test_on_the_starter_a_usual_rate_learns_and_9e_7_does_not(starter: Base, rows: EncodedSet) -> None:
    usual, slow = found(
        starter, rows, experiment("usual", learning_rate=1e-3), experiment("slow", learning_rate=9.65e-7)
    )
    assert usual.level == "ok"
    assert slow.level == "warning"
    assert "the learning rate is probably too low" in slow.message
    assert "towards 0.001" in slow.fix


@pytest.mark.usefixtures("four_rows")
def test_rows_that_contradict_each_other_are_the_datas_fault(starter: Base, rows: EncodedSet) -> None:
    """One source with four answers of a word: no adapter can know which is meant."""
    source, end = rows[0].input_ids.tolist(), int(rows[0].labels[-1])
    contradicting = EncodedSet([source] * 4, [[1000 + number, end] for number in range(4)])
    (finding,) = found(starter, contradicting, experiment("a", learning_rate=1e-3))
    assert finding.level != "ok"
    assert "the data or the base is the likely cause" in finding.message


def test_seeds_are_tried_once_and_what_is_left_out_is_said(
    mt5: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overfitting, "NUM_STEPS", 1)
    monkeypatch.setattr(overfitting, "NUM_EXPERIMENTS", 2)
    one = experiment("a")
    seeds = [Experiment(f"a@{n}", "a", one.lora, one.training, seed=n) for n in (1, 2)]
    others = [experiment(name) for name in "bcd"]
    *tried, left_out = found(mt5, random_rows(12), *seeds, *others)
    assert [finding.where for finding in tried] == ["a", "b"]
    assert left_out.level == "note"
    assert left_out.message.endswith("2 more were not")


def test_the_base_is_left_as_it_was_and_nothing_on_the_disk(
    mt5: Base, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(overfitting, "NUM_STEPS", 2)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    found(mt5, random_rows(12), experiment("a"))
    assert not any(isinstance(module, BankLinear) for module in mt5.model.modules())
    assert not list(tmp_path.iterdir())
