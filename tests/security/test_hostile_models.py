"""Model folders that would run code, reach elsewhere or take the machine down: refused, or mere data."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.flows.conftest import assert_refused
from tests.security.conftest import Watched
from tests.security.spoiling import (
    HEADERS,
    SECRET,
    Deed,
    change_json,
    evil_pickle,
    write_evil_code,
    write_safetensors,
)

Spoil = Callable[[Path, Path], Any]
WEIGHTS = "model.safetensors"


def set_config(**changes: Any) -> Spoil:
    return lambda folder, canary: change_json(folder / "config.json", **changes)


def set_tokenizer_config(**changes: Any) -> Spoil:
    return lambda folder, canary: change_json(folder / "tokenizer_config.json", **changes)


def write(name: str, content: str | bytes) -> Spoil:
    data = content.encode() if isinstance(content, str) else content
    return lambda folder, canary: (folder / name).write_bytes(data)


def with_code(spoil: Spoil) -> Spoil:
    """And the code itself beside it, under every name that a key may give it."""

    def both(folder: Path, canary: Path) -> None:
        write_evil_code(folder, canary, "modeling_evil.py", "tokenization_evil.py", "configuration_evil.py")
        (folder / "custom_generate").mkdir()
        write_evil_code(folder / "custom_generate", canary, "generate.py")
        spoil(folder, canary)

    return both


def indexed(weight_map: Any, index: str = "model.safetensors.index.json") -> Spoil:
    """An index in the place of the weights; `outside` beside the folder has them."""

    def spoil(folder: Path, canary: Path) -> None:
        (folder / WEIGHTS).rename(folder.parent / f"outside-{WEIGHTS}")
        (folder / "pickled.bin").write_bytes(evil_pickle(canary))
        named = weight_map if not isinstance(weight_map, str) else {"shared.weight": weight_map}
        (folder / index).write_text(json.dumps({"metadata": {}, "weight_map": named}))

    return spoil


def link_to_secret(name: str) -> Spoil:
    def spoil(folder: Path, canary: Path) -> None:
        secret = folder.parent / "secret.txt"
        secret.write_text(f"{SECRET} of the user")
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(secret)

    return spoil


def pipe(name: str) -> Spoil:
    def spoil(folder: Path, canary: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)

    return spoil


def pickled(write_pickle: Callable[[Path, Path], Any]) -> Spoil:
    def spoil(folder: Path, canary: Path) -> None:
        (folder / WEIGHTS).unlink()
        write_pickle(folder / "pytorch_model.bin", canary)

    return spoil


MAP = {"AutoConfig": "configuration_evil.Evil", "AutoModelForSeq2SeqLM": "modeling_evil.Evil"}
KERNELS = "kernels-community/flash-attn2"
NEVER_RUNS = "LoRALoom never runs a model's own code"
ELSEWHERE = "which lets transformers load code from elsewhere"
OUTSIDE = "names files outside the model's folder"
UNREADABLE = "config.json cannot be read"
PICKLES_ONLY = "only .bin weights, which are pickles"

REFUSED: dict[str, tuple[Spoil, str]] = {
    "auto_map": (with_code(set_config(auto_map=MAP)), NEVER_RUNS),
    "auto_map of another repository": (set_config(auto_map={"AutoConfig": "evil/repo--x.Evil"}), NEVER_RUNS),
    "auto_map that is no mapping": (set_config(auto_map="modeling_evil.Evil"), NEVER_RUNS),
    "trust_remote_code": (with_code(set_config(trust_remote_code=True)), NEVER_RUNS),
    "custom_pipelines": (
        with_code(set_config(custom_pipelines={"x": {"impl": "modeling_evil.Evil"}})),
        NEVER_RUNS,
    ),
    "a tokenizer's auto_map": (
        with_code(set_tokenizer_config(auto_map={"AutoTokenizer": ["tokenization_evil.Evil", None]})),
        NEVER_RUNS,
    ),
    "a tokenizer's old auto_map": (
        with_code(set_tokenizer_config(auto_map=["tokenization_evil.Evil", None])),
        NEVER_RUNS,
    ),
    "_attn_implementation": (set_config(_attn_implementation=KERNELS), ELSEWHERE),
    "_attn_implementation_internal": (set_config(_attn_implementation_internal=KERNELS), ELSEWHERE),
    "attn_implementation": (set_config(attn_implementation=KERNELS), ELSEWHERE),
    "attn_implementation of parts": (set_config(attn_implementation={"": KERNELS}), ELSEWHERE),
    "_experts_implementation": (set_config(_experts_implementation=KERNELS), ELSEWHERE),
    "use_kernels": (set_config(use_kernels=True), ELSEWHERE),
    "a private key": (set_config(_auto_class="Evil"), ELSEWHERE),
    "other weights": (
        set_config(transformers_weights="../outside.safetensors"),
        "names weights (transformers_weights) other",
    ),
    "quantisation that imports": (
        set_config(quantization_config={"quant_method": "bitsandbytes", "load_in_8bit": True}),
        "quantized",
    ),
    "quantisation of a module": (set_config(quantization_config={"quant_method": "evil.Evil"}), "quantized"),
    "a tokenizer's class by path": (
        with_code(set_tokenizer_config(tokenizer_class="tokenization_evil.Evil")),
        "not the name of a class",
    ),
    "a tokenizer's class in a list": (
        set_tokenizer_config(tokenizer_class=["Evil"]),
        "not the name of a class",
    ),
    "a tokenizer's files elsewhere": (
        set_tokenizer_config(fast_tokenizer_files=["../tokenizer.9.0.0.json"]),
        OUTSIDE,
    ),
    "an adapter that names another base": (
        lambda folder, canary: change_json(
            folder / "adapter_config.json", peft_type="LORA", base_model_name_or_path="evil/base"
        ),
        "is the folder of an adapter",
    ),
    "an index upwards": (indexed(f"../outside-{WEIGHTS}"), OUTSIDE),
    "an index to an absolute path": (indexed("/etc/passwd"), OUTSIDE),
    "an index to a pickle": (indexed("pickled.bin"), "not weights of the expected kind"),
    "an index to numbers": (indexed({"shared.weight": 7}), OUTSIDE),
    "an index without a map": (indexed(["pickled.bin"]), "no `weight_map`"),
    "an index of nothing": (indexed({}), "no `weight_map`"),
    "an index that is no JSON": (
        write("model.safetensors.index.json", '{"weight_map": '),
        "model.safetensors.index.json cannot be read",
    ),
    "a config of the user's secrets": (link_to_secret("config.json"), UNREADABLE),
    "a tokenizer of the user's secrets": (link_to_secret("tokenizer.json"), "its tokenizer cannot be loaded"),
    "a tokenizer's config of the user's secrets": (
        link_to_secret("tokenizer_config.json"),
        "tokenizer_config.json cannot be read",
    ),
    "weights of the user's secrets": (link_to_secret(WEIGHTS), "its weights cannot be loaded"),
    "a pipe as config": (pipe("config.json"), "the folder contains no config.json"),
    "a pipe as weights": (pipe(WEIGHTS), "its weights cannot be loaded"),
    "a pipe as tokenizer": (pipe("tokenizer.json"), "its tokenizer cannot be loaded"),
    "a link to itself": (
        lambda folder, canary: ((folder / WEIGHTS).unlink(), (folder / WEIGHTS).symlink_to(WEIGHTS)),
        "its weights cannot be loaded",
    ),
    "a config nested deep": (write("config.json", '{"a":' * 100_000), UNREADABLE),
    "a config that is a list": (write("config.json", "[]"), "config.json is not a JSON object"),
    "a config of bytes": (write("config.json", b"\xff\xfe\x00"), UNREADABLE),
    "a config with endless digits": (write("config.json", '{"d_model": ' + "9" * 9_000 + "}"), UNREADABLE),
    "a config larger than any": (write("config.json", b" " * (65 * 2**20)), "is too large"),
    "a million million labels": (set_config(num_labels=10**12), "larger than in any real model"),
    "a number without end": (set_config(layer_norm_epsilon=float("inf")), "larger than in any real model"),
    "a million layers": (set_config(num_layers=1_000_000), "a far larger model than its files contain"),
    "a width of text": (set_config(d_model="wide"), "`d_model` is not a valid size"),
    "a depth below 0": (set_config(num_layers=-3), "`num_layers` is not a valid size"),
    "a family that is none": (set_config(model_type=["mt5"]), "its config.json has no model_type"),
    "a family with control characters": (
        set_config(model_type="\x1b[2Jmt5"),
        "is an encoder-decoder that LoRALoom does not support",
    ),
    "architectures with control characters": (
        set_config(model_type="x", architectures=["\x1b]0;owned\x07"]),
        "x is an encoder-decoder that LoRALoom does not support yet",
    ),
    "an activation that is code": (
        set_config(feed_forward_proj="gated-os.system", dense_act_fn="os.system"),
        "",
    ),
    "a pickle only": (pickled(lambda file, canary: file.write_bytes(evil_pickle(canary))), PICKLES_ONLY),
    "a tokenizer nested deep": (
        write("tokenizer.json", '{"model":' * 100_000),
        "its tokenizer cannot be loaded",
    ),
    "a tokenizer that is a pickle": (
        lambda folder, canary: (folder / "tokenizer.json").write_bytes(evil_pickle(canary)),
        "its tokenizer cannot be loaded",
    ),
} | {
    f"weights with {header}": (
        lambda folder, canary, spoil=spoil: spoil(folder / WEIGHTS),
        "its weights cannot be loaded",
    )
    for header, spoil in HEADERS.items()
}


@pytest.fixture
def model(watched: Watched) -> Path:
    return Path(shutil.copytree(watched.project.model, watched.project.folder / "model"))


MODEL = ("--set", "model_name_or_path=model")


@pytest.mark.parametrize("case", REFUSED)
def test_refused_and_nothing_left(case: str, watched: Watched, model: Path) -> None:
    spoil, said = REFUSED[case]
    spoil(model, watched.canary)
    ended = watched.call("train", "recipe.yaml", *MODEL, "--out", "run")
    assert_refused(ended, "ModelError: model: ", said)
    assert not (watched.project.folder / "run").exists()
    assert SECRET not in ended.stderr
    assert "\x1b" not in ended.stderr
    watched.assert_nothing_happened()


def torch_pickle(zipped: bool) -> Callable[[Path, Path], Any]:
    return lambda file, canary: torch.save(
        {"shared.weight": Deed(canary)}, file, _use_new_zipfile_serialization=zipped
    )


PICKLES: dict[str, Spoil] = {
    "plain": pickled(lambda file, canary: file.write_bytes(evil_pickle(canary))),
    "torch's": pickled(torch_pickle(True)),
    "old torch's": pickled(torch_pickle(False)),
    "of an index": indexed("pickled.bin", "pytorch_model.bin.index.json"),
}


@pytest.mark.parametrize("kind", PICKLES)
def test_a_pickle_runs_nothing_even_where_pickles_are_allowed(
    kind: str, watched: Watched, model: Path
) -> None:
    PICKLES[kind](model, watched.canary)
    allow = ("--set", "allow_bin_weights=true")
    assert_refused(watched.call("check", "recipe.yaml", *MODEL, *allow), "its weights cannot be loaded")
    watched.assert_nothing_happened()


def test_an_index_to_a_pickle_outside_is_refused_where_pickles_are_allowed(
    watched: Watched, model: Path
) -> None:
    indexed("../../evil.bin", "pytorch_model.bin.index.json")(model, watched.canary)
    ended = watched.call("check", "recipe.yaml", *MODEL, "--set", "allow_bin_weights=true")
    assert_refused(ended, OUTSIDE)


def add_template(folder: Path, canary: Path) -> None:
    escape = "{{ cycler.__init__.__globals__.os.system('touch " + str(canary) + "') }}"
    change_json(folder / "tokenizer_config.json", chat_template=escape)
    (folder / "chat_template.jinja").write_text(escape)


def weights_elsewhere(folder: Path, canary: Path) -> None:
    moved = folder.parent / "elsewhere.safetensors"
    (folder / WEIGHTS).rename(moved)
    (folder / WEIGHTS).symlink_to(moved)


def endless_expression(folder: Path, canary: Path) -> None:
    tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    tokenizer["pre_tokenizer"] = {
        "type": "Split",
        "pattern": {"Regex": "(x+x+)+y|(.*.*)*!"},
        "behavior": "Isolated",
        "invert": False,
    }
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")


# What does no harm as long as nobody runs it is no reason to refuse a model.
HARMLESS: dict[str, Spoil] = {
    "code that nothing names": with_code(lambda folder, canary: None),
    "a chat template that escapes": add_template,
    "a tokenizer's class that is nowhere": with_code(set_tokenizer_config(tokenizer_class="EvilTokenizer")),
    "a pickle beside the weights": lambda folder, canary: (folder / "pytorch_model.bin").write_bytes(
        evil_pickle(canary)
    ),
    "pickled tokens": lambda folder, canary: (folder / "vocab.pkl").write_bytes(evil_pickle(canary)),
    "a name of another model": set_config(_name_or_path="evil/base", name_or_path="evil/base"),
    "weights by a link": weights_elsewhere,
    "an expression without end": endless_expression,
}


@pytest.mark.parametrize("case", HARMLESS)
def test_harmless_and_read_as_data(case: str, watched: Watched, model: Path) -> None:
    HARMLESS[case](model, watched.canary)
    ended = watched.call("check", "recipe.yaml", *MODEL)
    assert ended.code == 0, ended.stderr
    watched.assert_nothing_happened()


def test_a_safetensors_file_of_another_model_is_not_taken(watched: Watched, model: Path) -> None:
    write_safetensors(
        model / WEIGHTS, {"x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, b"\0" * 4
    )
    assert_refused(watched.call("check", "recipe.yaml", *MODEL), "ModelError: model: ")
