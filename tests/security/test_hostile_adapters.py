"""Adapter folders that are not what they say: refused whole, by name; never half of one, never code."""

from __future__ import annotations

import dataclasses
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file

from loraloom.bank.peft_config import KNOWN, WITHOUT_EFFECT
from tests.faults.warm import Warm
from tests.flows.conftest import Project, assert_refused, make_project
from tests.security.conftest import SHORT, Watched
from tests.security.spoiling import HEADERS, change_json, evil_pickle, write_evil_code
from tests.tiny import SHALLOW

Spoil = Callable[[Path, Path], Any]
CONFIG, WEIGHTS, ORIGIN = "adapter_config.json", "adapter_model.safetensors", "loraloom.json"


def config(**changes: Any) -> Spoil:
    return lambda folder, canary: change_json(folder / CONFIG, **changes)


def other(**values: Any) -> Spoil:
    """Leave nothing of a LoRA's configuration but where it goes."""

    def spoil(folder: Path, canary: Path) -> None:
        kept = {"target_modules": json.loads((folder / CONFIG).read_text())["target_modules"]}
        (folder / CONFIG).write_text(json.dumps({**kept, **values}))

    return spoil


def tensors(change: Callable[[dict[str, torch.Tensor]], Any]) -> Spoil:
    def spoil(folder: Path, canary: Path) -> None:
        held = load_file(folder / WEIGHTS)
        change(held)
        save_file({name: t.contiguous() for name, t in held.items()}, folder / WEIGHTS)

    return spoil


def first(held: dict[str, torch.Tensor], end: str = "lora_A.weight") -> str:
    return next(name for name in sorted(held) if name.endswith(end))


def put(held: dict[str, torch.Tensor], value: Callable[[torch.Tensor], torch.Tensor]) -> None:
    held[first(held)] = value(held[first(held)])


def add(name: str) -> Spoil:
    return tensors(lambda held: held.update({name: torch.zeros(4, 32)}))


def pickled(folder: Path, canary: Path) -> None:
    (folder / WEIGHTS).unlink()
    (folder / "adapter_model.bin").write_bytes(evil_pickle(canary))


DOES_NOT_COMPUTE = "which LoRALoom does not support"
NO_PART = "not part of a LoRA adapter"
PREFIX = "base_model.model."

REFUSED: dict[str, tuple[Spoil, str]] = {
    "DoRA without lengths": (config(use_dora=True), "modules lack one of their tensors"),
    "biases of B": (config(lora_bias=True), "modules lack one of their tensors"),
    "whole modules": (
        config(modules_to_save=["lm_head"]),
        "for `lm_head`; LoRALoom supports it for norms",
    ),
    "other ranks": (config(rank_pattern={"q": 8}), ""),
    "ranks of text": (config(rank_pattern={"q": "many"}), "the adapter's configuration is invalid"),
    "scales in a list": (config(alpha_pattern=[8]), "`alpha_pattern` is not a mapping"),
    "a pattern that is none": (config(rank_pattern={"([": 1}), "is not a valid regular expression"),
    "biases": (config(bias="all"), f"uses `bias`, {DOES_NOT_COMPUTE}"),
    "new tokens": (
        config(trainable_token_indices=[1]),
        "`trainable_token_indices` do not match its trained rows",
    ),
    "tokens that are none": (
        config(trainable_token_indices={"shared": ["a"]}),
        "`trainable_token_indices` are not a single list of token ids",
    ),
    "layers again": (config(layer_replication=[[0, 1]]), f"uses `layer_replication`, {DOES_NOT_COMPUTE}"),
    "megatron's module": (config(megatron_config={"x": 1}), f"uses `megatron_config`, {DOES_NOT_COMPUTE}"),
    "a base that was moved": (config(init_lora_weights="pissa_niter_4"), "changed the base's own weights"),
    "another method": (config(peft_type="IA3"), "is not a LoRA adapter"),
    "another method's key": (config(peft_type="LOHA"), "which is unknown and may change"),
    "another method's size": (other(peft_type="LOHA", alpha=8, r=10**9), "configuration is invalid"),
    "another method's tensors": (other(peft_type="LOHA", alpha=8, r=4), "do not match its configuration"),
    "another method's expression": (
        other(peft_type="LOHA", alpha=8, r=4, target_modules=r"(([a-zA-Z.0-9_]+)+)+!"),
        "the adapter's `target_modules`",
    ),
    "a key of tomorrow": (
        config(use_tomorrow=True, peft_version="9.9"),
        "`use_tomorrow`, which is unknown",
    ),
    "a key with control characters": (config(**{"\x1b[2J": 1}), "which is unknown"),
    "a rank of text": (config(r="many"), "the adapter's configuration is invalid"),
    "a rank beyond reason": (config(r=10**9), "configuration is invalid"),
    "a scale that is NaN": (config(lora_alpha=float("nan")), "the adapter's configuration is invalid"),
    "another rank than its tensors": (config(r=2), ""),
    "no targets": (config(target_modules=None), "names no `target_modules`"),
    "targets that are numbers": (config(target_modules=[1, 2]), "names no `target_modules`"),
    "an expression without end": (config(target_modules=r"(([a-zA-Z.0-9_]+)+)+!"), "`target_modules`"),
    "an expression that is none": (config(target_modules="(["), "is not a valid regular expression"),
    "an expression of nothing": (config(target_modules="nothing"), "matches no linear"),
    "a config nested deep": (
        lambda folder, canary: (folder / CONFIG).write_text('{"r":' * 100_000),
        "adapter_config.json cannot be read",
    ),
    "a config that is a list": (
        lambda folder, canary: (folder / CONFIG).write_text("[]"),
        "is not a JSON object",
    ),
    "an origin nested deep": (
        lambda folder, canary: (folder / ORIGIN).write_text('{"r":' * 100_000),
        "loraloom.json cannot be read",
    ),
    "another base": (
        lambda folder, canary: change_json(folder / ORIGIN, base_fingerprint="0" * 64),
        "was trained on another base model",
    ),
    "another vocabulary": (
        lambda folder, canary: change_json(folder / ORIGIN, tokenizer_fingerprint="0" * 64),
        "was trained on another vocabulary",
    ),
    "an origin of numbers": (
        lambda folder, canary: change_json(folder / ORIGIN, base_fingerprint=7, base=["x"]),
        "was trained on another base model",
    ),
    "a pickle": (pickled, "a pickle, which is not loaded"),
    "a key beyond the base": (add(f"{PREFIX}encoder.block.9.layer.0.SelfAttention.q.lora_A.weight"), ""),
    "a key of no linear": (add(f"{PREFIX}shared.lora_A.weight"), ""),
    "a key of the base itself": (add(f"{PREFIX}lm_head.weight"), NO_PART),
    "a key without the prefix": (add("lm_head.lora_A.weight"), NO_PART),
    "a key of DoRA": (add(f"{PREFIX}encoder.x.lora_magnitude_vector"), NO_PART),
    "a tensor with control characters": (add("\x1b[2J"), NO_PART),
    "half of a pair": (tensors(lambda held: held.pop(first(held))), "lack their A or their B"),
    "whole modules missing": (
        tensors(lambda held: [held.pop(n) for n in list(held) if "encoder.block.0" in n]),
        "lacks the tensors of",
    ),
    "another width": (tensors(lambda held: put(held, lambda t: torch.zeros(4, 7))), ""),
    "another rank in one": (tensors(lambda held: put(held, lambda t: t[:2])), ""),
    "three dimensions": (tensors(lambda held: put(held, lambda t: t[None])), ""),
    "no dimensions": (tensors(lambda held: put(held, lambda t: torch.tensor(1.0))), ""),
    "no rows": (tensors(lambda held: put(held, lambda t: t[:0])), ""),
    "NaN": (tensors(lambda held: put(held, lambda t: t * float("nan"))), "NaN or infinite"),
    "infinity": (tensors(lambda held: put(held, lambda t: t + float("inf"))), "NaN or infinite"),
    "too large for float32": (
        tensors(lambda held: put(held, lambda t: t.double() + 1e300)),
        "NaN or infinite",
    ),
    "whole numbers": (
        tensors(lambda held: put(held, lambda t: t.long())),
        "instead of floating-point values",
    ),
    "complex numbers": (
        tensors(lambda held: put(held, lambda t: t.to(torch.complex64))),
        "instead of floating-point values",
    ),
    "nothing": (tensors(lambda held: held.clear()), "contains no tensors"),
} | {
    f"weights with {header}": (lambda folder, canary, spoil=spoil: spoil(folder / WEIGHTS), "")
    for header, spoil in HEADERS.items()
}


@pytest.fixture(scope="module")
def trained(
    online: Warm, tiny: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Project, Path]:
    """A run whose adapters are to be spoilt."""
    project = make_project(online, tmp_path_factory.mktemp("trained"), tiny(SHALLOW))
    ended = project.call("train", "recipe.yaml", "--out", "run", *SHORT)
    assert ended.code == 0, ended.stderr
    return project, project.folder / "run"


@pytest.fixture
def adapter(trained: tuple[Project, Path], watched: Watched) -> Path:
    return Path(shutil.copytree(trained[1] / "adapters/wide", watched.project.folder / "adapter"))


GO_ON = ("--set", "experiments.wide.lora.init_adapter=adapter")


@pytest.mark.parametrize("case", REFUSED)
def test_refused_where_training_goes_on_from_it(case: str, watched: Watched, adapter: Path) -> None:
    spoil, said = REFUSED[case]
    spoil(adapter, watched.canary)
    started = time.monotonic()
    ended = watched.call("train", "recipe.yaml", *GO_ON, "--out", "run")
    assert time.monotonic() - started < 30
    assert_refused(ended, "AdapterError: ", said)
    assert not (watched.project.folder / "run").exists()
    assert "\x1b" not in ended.stderr
    watched.assert_nothing_happened()


# What reading refuses, it refuses here as there; these few show that a run's adapters are read the same way.
IN_A_RUN = (
    "DoRA without lengths",
    "a key of tomorrow",
    "a pickle",
    "another base",
    "an expression without end",
    "another width",
    "NaN",
)


@pytest.mark.parametrize("case", IN_A_RUN)
def test_refused_in_a_run_that_is_asked(
    case: str, trained: tuple[Project, Path], watched: Watched, tmp_path: Path
) -> None:
    spoil, said = REFUSED[case]
    run = Path(shutil.copytree(trained[1], tmp_path / "run"))
    spoil(run / "adapters/wide", watched.canary)
    data = trained[0].folder / "data.json"
    ended = watched.call("predict", run, data, "--experiment", "wide")
    assert_refused(ended, "AdapterError: ", said)
    watched.assert_nothing_happened()


HARMLESS: dict[str, Spoil] = {
    "a base elsewhere": config(base_model_name_or_path="evil/base", revision="evil"),
    "a mapping to code": config(auto_mapping={"base_model_class": "Evil", "parent_library": "modeling_evil"}),
    "code beside it": lambda folder, canary: write_evil_code(folder, canary, "modeling_evil.py"),
    "a pickle beside it": lambda folder, canary: (folder / "adapter_model.bin").write_bytes(
        evil_pickle(canary)
    ),
    "pickled arguments": lambda folder, canary: (folder / "training_args.bin").write_bytes(
        evil_pickle(canary)
    ),
    "an expression as targets": config(target_modules=r"(encoder|decoder)\..*\.(q|k|v|o|wi_0|wi_1|wo)"),
    "layers named": config(layers_to_transform=[0, 1], layers_pattern="block"),
}


@pytest.mark.parametrize("case", HARMLESS)
def test_harmless_and_read_as_data(case: str, watched: Watched, adapter: Path) -> None:
    HARMLESS[case](adapter, watched.canary)
    ended = watched.call("check", "recipe.yaml", *GO_ON)
    assert ended.code == 0, ended.stderr
    watched.assert_nothing_happened()


def test_every_key_that_peft_writes_is_known() -> None:
    """A new PEFT may bring a key that changes what an adapter is: then this fails, and somebody looks."""
    written = {field.name for field in dataclasses.fields(peft.LoraConfig)}
    assert written - KNOWN == set()
    assert "auto_mapping" in WITHOUT_EFFECT


def test_what_peft_writes_by_itself_is_accepted(tmp_path: Path) -> None:
    from loraloom.bank.peft_config import check_config

    peft.LoraConfig(r=4, target_modules=["q"], task_type="SEQ_2_SEQ_LM").save_pretrained(tmp_path)
    check_config(json.loads((tmp_path / CONFIG).read_text()), "adapter")
