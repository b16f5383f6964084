"""Models and adapters that cannot be right: refused with both sides of what does not fit."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from tests.faults.warm import Warm
from tests.flows.conftest import Project, TrainedRun, assert_refused, make_project
from tests.tiny import SHALLOW, make_folder

OfOtherBase = Callable[[Project, dict[str, int]], Path]


def refuse_model(project: Project, *said: str) -> None:
    for verb, *out in (("check",), ("train", "--out", "run")):
        ended = project.call(verb, "recipe.yaml", "--set", "model_name_or_path=model", *out)
        assert_refused(ended, "ModelError: ", *said)
    assert not (project.folder / "run").exists()


@pytest.fixture
def model(project: Project) -> Path:
    return Path(shutil.copytree(project.model, project.folder / "model"))


def change_json(file: Path, **changes: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_52_a_causal_model(project: Project) -> None:
    folder = project.folder / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]}')
    refuse_model(project, "GPT2LMHeadModel", "encoder-decoder models of the families", "mt5")


def test_52_a_folder_that_is_no_model(project: Project) -> None:
    (project.folder / "model").mkdir()
    refuse_model(project, "the folder contains no config.json")


def test_a_model_that_is_not_there(project: Project) -> None:
    ended = project.call("check", "recipe.yaml", "--set", "model_name_or_path=./modle")
    assert_refused(ended, "ModelError: ./modle: there is no such folder", "model_name_or_path")


def test_56_a_truncated_weights_file(project: Project, model: Path) -> None:
    file = model / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])
    refuse_model(project, "its weights cannot be loaded")


def test_56_half_of_the_weights(project: Project, model: Path) -> None:
    weights = load_file(model / "model.safetensors")
    kept = dict(list(weights.items())[: len(weights) // 2])
    save_file(kept, model / "model.safetensors", metadata={"format": "pt"})
    refuse_model(project, "of its weights are missing", "copy it again")


def test_58_pickles_only(project: Project, model: Path) -> None:
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    refuse_model(project, "only .bin weights", "allow_bin_weights: true")


def test_60_no_eos_token(project: Project, model: Path) -> None:
    config = json.loads((model / "tokenizer_config.json").read_text())
    del config["eos_token"]
    (model / "tokenizer_config.json").write_text(json.dumps(config))
    refuse_model(project, "its tokenizer has no eos token")


def test_59_a_tokenizer_larger_than_the_embeddings(project: Project) -> None:
    make_folder(project.folder / "model", "mt5", vocab_size=300)
    refuse_model(project, "more tokens than the model has embeddings", "300 embeddings")


@pytest.mark.parametrize("place", ["config.json", "tokenizer_config.json"])
def test_76_a_model_that_brings_code(place: str, project: Project, model: Path) -> None:
    (model / "modeling_evil.py").write_text("open('ran', 'w')\nclass Evil: pass\n")
    names = {"AutoConfig": "modeling_evil.Evil", "AutoModelForSeq2SeqLM": "modeling_evil.Evil"}
    change_json(model / place, auto_map=names | {"AutoTokenizer": ["modeling_evil.Evil", None]})
    if place == "config.json":
        refuse_model(project, "auto_map", "never runs a model's own code")
    else:
        ended = project.call("check", "recipe.yaml", "--set", "model_name_or_path=model")
        assert "Traceback" not in ended.stderr
    assert not (project.folder / "ran").exists()


# Adapters to go on from, and adapters put in the place of a run's own.


@pytest.fixture
def adapter(trained: TrainedRun, project: Project) -> Path:
    """The folder of `wide`, r 4, all linears, to be spoilt."""
    return Path(shutil.copytree(trained.run / "adapters/wide", project.folder / "adapter"))


def go_on(project: Project, *sets: str) -> tuple[str | Path, ...]:
    words = [
        word for value in ("experiments.wide.lora.init_adapter=adapter", *sets) for word in ("--set", value)
    ]
    return ("recipe.yaml", *words)


def refuse_adapter(project: Project, *said: str) -> None:
    for verb, *out in (("check",), ("train", "--out", "run")):
        assert_refused(project.call(verb, *go_on(project), *out), "AdapterError: ", *said)
    assert not (project.folder / "run").exists()


def test_an_adapter_that_fits_is_gone_on_from(project: Project, adapter: Path) -> None:
    ended = project.call("train", *go_on(project), "--out", "run", "--json")
    assert ended.code == 0, ended.stderr
    first = json.loads((project.folder / "run/events.jsonl").read_text().splitlines()[0])
    assert first["loss"] < 5  # it was 6.2 for the base


# What another base differs in from the project's.
WIDTH, DEPTH, WEIGHTS = {"d_model": 16}, {"num_layers": 2}, {"seed": 1}


@pytest.fixture(scope="module")
def of_other_base(warm: Warm, tmp_path_factory: pytest.TempPathFactory) -> OfOtherBase:
    """`of_other_base(project, DEPTH)` → an adapter of such a base in the project's folder, trained once."""
    trained: dict[str, Path] = {}

    def copy(project: Project, changes: dict[str, int]) -> Path:
        name = str(changes)
        if name not in trained:
            folder = tmp_path_factory.mktemp("other")
            other = make_project(warm, folder, make_folder(folder / "other", SHALLOW, **changes))
            sets = ("--set", "training.max_steps=1", "--set", "model_name_or_path=other")
            assert other.call("train", "recipe.yaml", *sets, "--out", "run").code == 0
            trained[name] = folder / "run/adapters/wide"
        return Path(shutil.copytree(trained[name], project.folder / "adapter"))

    return copy


def forget_origin(adapter: Path) -> None:
    """As a folder of PEFT's own, which remembers no base."""
    (adapter / "loraloom.json").unlink()


def test_53_another_width(project: Project, of_other_base: OfOtherBase) -> None:
    adapter = of_other_base(project, WIDTH)
    refuse_adapter(project, "was trained on another base model", "other ", f"{SHALLOW} ")
    forget_origin(adapter)
    refuse_adapter(project, "16", "32")


def test_53_another_depth(project: Project, of_other_base: OfOtherBase) -> None:
    forget_origin(of_other_base(project, DEPTH))
    refuse_adapter(project, "adapter", "2 encoder and 1 decoder layers; this base has 1 and 1")


def test_54_another_rank(project: Project, adapter: Path) -> None:
    for verb, *out in (("check",), ("train", "--out", "run")):
        ended = project.call(verb, *go_on(project, "experiments.wide.lora.r=8"), *out)
        assert_refused(
            ended,
            "wide: lora.init_adapter: the adapter was trained with a different r (found: 4). Allowed: 8",
        )
    change_json(adapter / "adapter_config.json", r=8)  # and the configuration may lie
    ended = project.call("check", *go_on(project, "experiments.wide.lora.r=8"))
    assert_refused(ended, "AdapterError: ")


def test_55_another_vocabulary_of_the_same_width(
    project: Project, trained: TrainedRun, adapter: Path
) -> None:
    copy = Path(shutil.copytree(project.model, project.folder / "other"))
    tokenizer = json.loads((copy / "tokenizer.json").read_text(encoding="utf-8"))
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
    (copy / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    ended = project.call("check", *go_on(project, "model_name_or_path=other"))
    assert_refused(ended, "AdapterError: ", "was trained on another vocabulary")


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


def drop_halves(file: Path) -> None:
    tensors = load_file(file)
    kept = {name: tensor for name, tensor in tensors.items() if "lora_B" not in name or "encoder" in name}
    save_file(kept, file, metadata={"format": "pt"})


def make_nan(file: Path) -> None:
    tensors = load_file(file)
    next(iter(tensors.values())).fill_(float("nan"))
    save_file(tensors, file, metadata={"format": "pt"})


DAMAGES: dict[str, tuple[str, Callable[[Path], Any], tuple[str, ...]]] = {
    "56 truncated": ("adapter_model.safetensors", truncate, ("adapter_model.safetensors is damaged",)),
    "57 half the keys": ("adapter_model.safetensors", drop_halves, ("modules lack their A or their B",)),
    "58 pickle only": (
        "adapter_model.safetensors",
        lambda file: file.rename(file.with_suffix(".bin")),
        ("has no adapter_model.safetensors", "a pickle, which is not loaded"),
    ),
    "NaN": ("adapter_model.safetensors", make_nan, ("contains NaN or infinite values",)),
    "no configuration": ("adapter_config.json", Path.unlink, ("has no adapter_config.json",)),
    "an empty configuration": (
        "adapter_config.json",
        lambda file: file.write_text("{}"),
        ("is not a LoRA adapter",),
    ),
    "a configuration that is no JSON": (
        "adapter_config.json",
        truncate,
        ("adapter_config.json cannot be read",),
    ),
    "DoRA": (
        "adapter_config.json",
        lambda file: change_json(file, use_dora=True),
        ("lack one of their tensors", "lora_magnitude_vector"),
    ),
    "a damaged origin": ("loraloom.json", truncate, ("loraloom.json cannot be read",)),
}


@pytest.mark.parametrize("case", DAMAGES)
def test_a_damaged_adapter_is_refused(
    case: str, project: Project, trained: TrainedRun, own_run: Path, adapter: Path
) -> None:
    name, inflict, said = DAMAGES[case]
    inflict(adapter / name)
    refuse_adapter(project, *said)
    inflict(own_run / "adapters/wide" / name)
    for argv in (("compare", own_run), ("predict", own_run, "data.json", "--experiment", "wide")):
        assert_refused(trained.project.call(*argv), "AdapterError: ", *said)


def swap(own_run: Path, adapter: Path) -> None:
    shutil.rmtree(own_run / "adapters/wide")
    shutil.copytree(adapter, own_run / "adapters/wide")


@pytest.mark.parametrize("changes", [WIDTH, DEPTH, WEIGHTS])
def test_53_55_an_adapter_of_another_base_in_the_place_of_a_run_s(
    changes: dict[str, int],
    project: Project,
    of_other_base: OfOtherBase,
    trained: TrainedRun,
    own_run: Path,
) -> None:
    swap(own_run, of_other_base(project, changes))
    verbs = (("compare", own_run), ("predict", own_run, "data.json", "--experiment", "wide"))
    for argv in verbs:
        assert_refused(trained.project.call(*argv), "AdapterError: ", "was trained on another base model")
    if "d_model" not in changes:
        return  # without its origin only the shapes tell it apart
    forget_origin(own_run / "adapters/wide")
    for argv in verbs:
        assert_refused(trained.project.call(*argv), "AdapterError: ")


def test_57_whole_modules_missing_from_a_run_s_adapter(trained: TrainedRun, own_run: Path) -> None:
    file = own_run / "adapters/wide/adapter_model.safetensors"
    kept = {name: tensor for name, tensor in load_file(file).items() if "encoder.block.0" not in name}
    save_file(kept, file, metadata={"format": "pt"})
    assert_refused(trained.project.call("compare", own_run), "AdapterError: ")


def test_54_an_adapter_whose_configuration_has_another_rank_than_its_tensors(
    trained: TrainedRun, own_run: Path
) -> None:
    change_json(own_run / "adapters/wide/adapter_config.json", r=8)
    ended = trained.project.call("compare", own_run)
    assert_refused(ended, "AdapterError: ", "4", "8")
