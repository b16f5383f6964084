"""Every check of the gate passes on what is right and fires on what was sabotaged."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import GenerationConfig

from loraloom.bank.bank import AdapterBank
from loraloom.bank.linear import BankLinear
from loraloom.base.loading import Base, load_base
from loraloom.checks import gate as gate_module
from loraloom.checks.finding import Finding, raise_errors
from loraloom.checks.gate import check_generation, run_gate
from loraloom.checks.model_suite import GATE
from loraloom.data import row_packing
from loraloom.data.encoding import EncodedSet, encode
from loraloom.errors import CheckError, TargetError
from loraloom.recipe import Experiment, GenerationSettings
from loraloom.starter import data_file, model_folder
from tests.checks.data_rows import examples
from tests.families import TINY_FAMILIES
from tests.parity.rig import EOS, experiment, random_rows, speaking_tensors, train_all

ROWS = random_rows(10, seed=5)
EXPERIMENTS = [
    experiment("narrow", lora={"r": 2, "lora_dropout": 0.1, "target_modules": ["q", "v"]}, seed=1),
    experiment("wide", lora={"r": 5, "lora_dropout": 0.0}, seed=2),
]


def findings(
    base: Base,
    rows: EncodedSet = ROWS,
    experiments: list[Experiment] = EXPERIMENTS,
    initial: dict[str, Any] | None = None,
    packing: bool = True,
) -> list[Finding]:
    return run_gate(base, experiments, initial or {}, rows, packing=packing, checks=GATE)


def of(found: list[Finding], check: str) -> list[Finding]:
    return [finding for finding in found if finding.check == check]


def errors(found: list[Finding]) -> list[str]:
    return [finding.check for finding in found if finding.level == "error"]


@pytest.mark.parametrize("packing", [True, False])
def test_what_is_right_passes_every_check(base: Base, kind: str, packing: bool) -> None:
    found = findings(base, random_rows(12, seed=5, eos=base.eos_token_id), packing=packing)
    said = [finding for finding in found if "vision_tower are not adapted" not in finding.message]
    assert {finding.level for finding in said if finding.check != "generation"} == {"ok"}
    assert of(found, "generation")[0].level == ("note" if TINY_FAMILIES[kind].has_settings else "ok")
    assert {finding.check for finding in found} == {
        "shapes",
        "labels",
        "loss",
        "targets",
        "start",
        "gradient",
        "generation",
    }
    assert len(of(found, "start")) == len(of(found, "gradient")) == len(EXPERIMENTS)
    raise_errors(found)


def test_the_gate_leaves_the_base_as_it_was(mt5: Base) -> None:
    before = {name: tensor.clone() for name, tensor in mt5.model.state_dict().items()}
    findings(mt5)
    after = mt5.model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    assert not any(isinstance(module, BankLinear) for module in mt5.model.modules())
    assert mt5.model.training


def test_a_row_without_eos_is_found_wherever_it_lies(mt5: Base) -> None:
    """Only a few rows are run; every row's end is looked at."""
    for index in range(len(ROWS)):
        targets = [row.labels.tolist() for row in ROWS]
        targets[index][-1] = 7
        spoilt = EncodedSet([row.input_ids.tolist() for row in ROWS], targets)
        found = findings(mt5, spoilt)
        assert errors(found) == ["labels"]
        (finding,) = of(found, "labels")
        assert "1 rows do not end in EOS" in finding.message
        assert f"training row {index + 1}" in finding.message
        with pytest.raises(CheckError, match="check `labels` failed"):
            raise_errors(found)


@pytest.mark.parametrize("packing", [True, False])
def test_labels_on_padding_are_found(mt5: Base, packing: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a data collator that pads labels with <pad> does: the loss then teaches padding."""
    monkeypatch.setattr(row_packing, "WIDENINGS", (1.0,))  # or no row has padding
    batch = gate_module.batch_of

    def padded(*args: Any) -> Any:
        made = batch(*args)
        return dataclasses.replace(made, labels=made.labels.where(made.labels != -100, 0))

    monkeypatch.setattr(gate_module, "batch_of", padded)
    gate = gate_module.Gate(
        mt5, EXPERIMENTS, {}, ROWS, list(ROWS)[:4], padded(mt5, [None], list(ROWS)[:4], packing)
    )
    (finding,) = gate_module.check_labels(gate)
    assert finding.level == "error"
    assert "-100" in finding.message


def test_a_token_beyond_the_vocabulary_is_found(mt5: Base) -> None:
    rows = list(ROWS)[:4]
    batch = gate_module.batch_of(mt5, [None], rows, True)
    batch.input_ids[0, 0] = 424
    (finding,) = gate_module.check_shapes(gate_module.Gate(mt5, EXPERIMENTS, {}, ROWS, rows, batch))
    assert finding.level == "error"
    assert "token 424 is beyond the 424 embeddings" in finding.message


def test_tensors_of_another_dtype_are_found(mt5: Base) -> None:
    rows = list(ROWS)[:4]
    batch = gate_module.batch_of(mt5, [None], rows, True)
    spoilt = dataclasses.replace(batch, labels=batch.labels.int())
    (finding,) = gate_module.check_shapes(gate_module.Gate(mt5, EXPERIMENTS, {}, ROWS, rows, spoilt))
    assert finding.level == "error"
    assert "labels is torch.int32" in finding.message


@pytest.mark.parametrize("change", ["scale", "cap"])
def test_a_wrong_scale_before_the_head_is_found(base: Base, change: str) -> None:
    """As when a tied flag is wrong: the training loss is then not the model's own."""
    name, wrong = ("output_scale", 0.5) if change == "scale" else ("softcap", 0.05)
    sabotaged = dataclasses.replace(base, family=copy.copy(base.family))
    setattr(sabotaged.family, name, lambda config: wrong)
    found = findings(sabotaged)
    assert "loss" in errors(found)
    assert "the model's own forward" in of(found, "loss")[0].message


def test_a_mask_that_lets_packed_rows_see_each_other_is_found(
    mt5: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "loraloom.data.batches._same_segment",
        lambda q, k: (k[:, None, :] > 0)[:, None].expand(-1, -1, q.shape[1], -1),
    )
    assert "loss" in errors(findings(mt5))


@pytest.mark.parametrize("packing", [True, False])
def test_rows_that_the_base_knows_pass_although_rounding_is_much_of_their_loss(packing: bool) -> None:
    base = load_base(str(model_folder()), dtype="float32", device="cpu")
    probes = json.loads(data_file("probe").read_text(encoding="utf-8"))[:30]
    known = examples([(probe["instruction"], probe["response"]) for probe in probes])
    rows = encode(known, base.tokenizer, max_source_length=64, max_target_length=64)
    (finding,) = run_gate(base, [], {}, rows, packing=packing, checks=[gate_module.check_loss])
    assert finding.level == "ok"
    loss, _, said = finding.message.partition(" ")
    assert float(loss) < 0.05
    assert said.startswith("in the model's own forward pass")


def test_a_base_whose_loss_is_not_finite_is_found(mt5: Base) -> None:
    weight = mt5.model.get_submodule("decoder.final_layer_norm").weight
    original = weight.clone()
    try:
        with torch.no_grad():
            weight[0] = torch.nan
        found = findings(mt5)
    finally:
        with torch.no_grad():
            weight.copy_(original)
    assert {"loss", "gradient"} <= set(errors(found))
    assert "nan" in of(found, "loss")[0].message


def test_a_base_that_is_not_frozen_is_found(mt5: Base) -> None:
    mt5.model.decoder.final_layer_norm.weight.requires_grad_(True)
    try:
        found = findings(mt5)
    finally:
        mt5.model.decoder.final_layer_norm.weight.requires_grad_(False)
        mt5.model.decoder.final_layer_norm.weight.grad = None
    assert errors(found) == ["gradient"] * len(EXPERIMENTS)
    assert "must be frozen" in of(found, "gradient")[0].message


def test_modules_that_get_no_gradient_are_named(mt5: Base) -> None:
    """The second layer's feed-forward answers nothing, so nothing comes back to it."""
    dead = mt5.model.get_submodule("decoder.block.1.layer.2.DenseReluDense.wo").weight
    original = dead.clone()
    only = [experiment("a", lora={"r": 2, "target_modules": ["wi_0"]})]
    try:
        with torch.no_grad():
            dead.zero_()
        found = findings(mt5, experiments=only)
    finally:
        with torch.no_grad():
            dead.copy_(original)
    (finding,) = of(found, "gradient")
    assert finding.level == "warning"
    assert "1 of 4 modules get no gradient" in finding.message
    assert "decoder.block.1.layer.2.DenseReluDense.wi_0" in finding.message


def test_an_adapter_that_does_not_start_as_the_base_is_found(
    mt5: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    attach = AdapterBank.attach

    def sabotaged(self: AdapterBank, slot: str, *args: Any, **kwargs: Any) -> None:
        attach(self, slot, *args, **kwargs)
        if slot == "wide":
            with torch.no_grad():
                self.parameters(slot)[1].fill_(0.05)

    monkeypatch.setattr(AdapterBank, "attach", sabotaged)
    found = findings(mt5)
    assert errors(found) == ["start"]
    assert [(f.where, f.level) for f in of(found, "start")] == [("narrow", "ok"), ("wide", "error")]


def test_going_on_from_an_adapter_is_noted_and_no_error(mt5: Base) -> None:
    settings = EXPERIMENTS[0].lora
    initial = {"narrow": speaking_tensors(AdapterBank(mt5), settings, seed=1)}
    found = findings(mt5, initial=initial)
    assert errors(found) == []
    assert [(f.where, f.level) for f in of(found, "start")] == [("narrow", "note"), ("wide", "ok")]


def test_targets_are_counted_as_they_train(mt5: Base, tmp_path: Any) -> None:
    found = of(findings(mt5), "targets")
    assert len(found) == 3  # q, v; all-linear
    text = " ".join(finding.message for finding in found if "narrow" in finding.where)
    assert "`q` matches 6 linears" in text
    trained = train_all(
        mt5,
        [experiment("narrow", lora={"r": 2, "target_modules": ["q"]}, max_steps=1)],
        ROWS,
        tmp_path / "run",
    )
    weights = sum(tensor.numel() for tensor in trained.adapter("narrow").values())
    assert f"{weights:,} adapter weights" in found[0].message


def test_a_target_that_matches_nothing_stops_the_gate(mt5: Base) -> None:
    with pytest.raises(TargetError, match="wi_0 and wi_1"):
        findings(mt5, experiments=[experiment("a", lora={"target_modules": ["q", "wi"]})])
    assert not any(isinstance(module, BankLinear) for module in mt5.model.modules())


@pytest.mark.parametrize(("kind", "is_noted"), [("bart", True), ("m2m100", True), ("mt5", False)])
def test_a_repetition_penalty_on_how_answers_end_is_noted(
    loaded: Callable[[str], Base], kind: str, is_noted: bool
) -> None:
    """transformers 5.24 counts the start token among those that occurred; of BART it is EOS."""
    base = loaded(kind)
    settings = GenerationSettings(repetition_penalty=1.2)
    rows = random_rows(9, seed=3, eos=base.eos_token_id)
    found = run_gate(base, [], {}, rows, packing=True, generation=settings, checks=[check_generation])
    noted = [finding for finding in found if finding.where == "generation.repetition_penalty"]
    assert bool(noted) == is_noted
    assert all("'</s>', which is also how they end" in finding.message for finding in noted)


def test_what_the_base_asks_for_and_answers_do_not_follow_is_noted(
    mt5: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many published models have a temperature without do_sample; some force or forbid tokens."""
    own = GenerationConfig(temperature=0.7, top_p=0.9, num_beams=4, forced_bos_token_id=7, eos_token_id=1)
    monkeypatch.setattr(mt5.model, "generation_config", own)
    found = findings(mt5)
    (finding,) = of(found, "generation")
    assert finding.level == "note"
    assert "not used (forced_bos_token_id, num_beams, temperature, top_p)" in finding.message
    assert finding.fix == "To follow the base, set num_beams, temperature, top_p in `generation`."
    assert errors(found) == []


def test_many_experiments_are_checked_a_handful_at_a_time(mt5: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loraloom.checks.adapters.ADAPTERS_AT_ONCE", 2)
    many = [experiment(f"e{number}", lora={"r": 1 + number}, seed=number) for number in range(5)]
    found = findings(mt5, experiments=many)
    assert [finding.where for finding in of(found, "gradient")] == [each.name for each in many]
    assert {finding.level for finding in found} == {"ok"}


def test_a_set_of_one_row_is_enough(mt5: Base) -> None:
    assert errors(findings(mt5, EncodedSet([[5, EOS]], [[6, 7, EOS]]))) == []


def test_findings_never_hold_the_text_of_a_row(mt5: Base) -> None:
    """They are shown and kept; rows may be private. Tokens of a row would be its text."""
    secret = [399, 398, 397, EOS]
    rows = EncodedSet([secret] * 4, [secret] * 4)
    text = " ".join(str(finding.to_json()) for finding in findings(mt5, rows))
    assert "399" not in text
    assert "397" not in text


def test_all_errors_are_raised_at_once_and_warnings_are_not() -> None:
    found = [
        Finding("ok", "shapes", "batch", "fine"),
        Finding("warning", "truncation", "data", "cut"),
        Finding("error", "loss", "objective", "first", "do this"),
        Finding("error", "labels", "labels", "second"),
    ]
    with pytest.raises(CheckError) as caught:
        raise_errors(found)
    text = str(caught.value)
    assert "check `loss` failed: first" in text
    assert "do this" in text
    assert "check `labels` failed: second" in text
    assert "cut" not in text
    raise_errors(found[:2])
