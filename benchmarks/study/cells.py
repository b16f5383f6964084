"""The trainings of the study: which variants, learning rates, ranks and targets, and on which models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LORA = "lora"
# What each changes; everything else is as in plain LoRA.
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    LORA: {},
    "rslora": {"lora": {"use_rslora": True}},
    "loraplus": {"lora": {"loraplus_lr_ratio": 16}},
    "rslora-plus": {"lora": {"use_rslora": True, "loraplus_lr_ratio": 16}},
    "dora": {"lora": {"use_dora": True}},
    "dora-plus": {"lora": {"use_dora": True, "loraplus_lr_ratio": 16}},
    "lorafa": {"lora": {"use_lorafa": True}},
    "pissa": {"lora": {"init_lora_weights": "pissa"}},
    "olora": {"lora": {"init_lora_weights": "olora"}},
}
RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
SEEDS = 3
RANK, RANKS = 16, (4, 64)
# The recipe has five; the loss of the starter's eval rows is lowest after the second.
STARTER_EPOCHS = 3


@dataclass(frozen=True)
class Model:
    """A model of the study, with its data.

    Args:
        title, chinese_title: in the pages.
        recipe: of plain LoRA, without `experiments` and `seeds`.
        figure: of the test rows, which variants are compared by; higher is better.
        targets: name → `target_modules` of the second stage.
    """

    title: str
    chinese_title: str
    recipe: Mapping[str, Any]
    figure: str
    targets: Mapping[str, Any]

    @property
    def lower_is_better(self) -> bool:
        """Of the figure on the eval rows that chooses checkpoints and learning rates."""
        return "metric_for_best_model" not in self.recipe["training"]


def starter() -> Model:
    """Return the embedded starter with its own rows."""
    import yaml

    from loraloom.recipe.reading import shipped_recipes

    recipe = yaml.safe_load(shipped_recipes()["starter"].read_text(encoding="utf-8"))
    recipe["training"]["num_train_epochs"] = STARTER_EPOCHS
    targets = {"attention": ["q", "k", "v", "o"], "feed-forward": ["wi_0", "wi_1", "wo"]}
    title, chinese = "The starter (an mT5 of 6 million weights)", "内置小模型（600 万权重的 mT5）"
    return Model(title, chinese, recipe, "chrf", targets)


def lemmatizer(folder: Path) -> Model:
    """Return the lemmatizer that `python -m benchmarks.real --folder FOLDER` converts, with its rows."""
    recipe = {
        "model_name_or_path": str(folder / "lemmatizer"),
        "data": {
            "train": [str(folder / "words" / "names.jsonl")],
            **{part: str(folder / "words" / f"{part}.jsonl") for part in ("eval", "test")},
            "retain": str(folder / "words" / "old.jsonl"),
        },
        "lora": {"r": RANK, "lora_dropout": 0.05, "target_modules": _layers(".*")},
        "training": {"num_train_epochs": 5, "per_device_train_batch_size": 16},
        "generation": {"max_new_tokens": 32},
    }
    targets = {"attention": _layers(r".*_attn\..*"), "feed-forward": _layers("fc[12]")}
    title, chinese = (
        "The Turkish lemmatizer (a Marian of 5 million weights)",
        "土耳其语词形还原模型（500 万权重的 Marian）",
    )
    return Model(title, chinese, recipe, "exact_match", targets)


def _layers(modules: str) -> str:
    # The fourth layer of each stack is the norm that lemmatizers of Marian's kind do not have.
    return rf"model\.(encoder|decoder)\.layers\.[012]\.{modules}"


def grid(model: Model) -> dict[str, Any]:
    """Return the recipe of the first stage: every variant at every learning rate, over the seeds."""
    cells = {
        cell(variant, rate): _merged(changes, {"training": {"learning_rate": rate}})
        for variant, changes in VARIANTS.items()
        for rate in RATES
    }
    return _recipe(model, cells)


def second_stage(model: Model, best: Mapping[str, float]) -> dict[str, Any]:
    """Return the recipe of the second stage: other ranks and targets, for plain LoRA and the best two.

    Args:
        best: variant → its learning rate; these are trained.
    """
    cells = {}
    for variant, rate in best.items():
        own = _merged(VARIANTS[variant], {"training": {"learning_rate": rate}})
        for rank in RANKS:
            cells[f"{variant}-r{rank}"] = _merged(own, {"lora": {"r": rank}})
        for name, modules in model.targets.items():
            cells[f"{variant}-{name}"] = _merged(own, {"lora": {"target_modules": modules}})
    return _recipe(model, cells)


def cell(variant: str, rate: float) -> str:
    """Name an experiment of the first stage."""
    return f"{variant}-{rate:g}"


def rates_of(variant: str) -> Sequence[str]:
    """Name the experiments of a variant."""
    return [cell(variant, rate) for rate in RATES]


def _recipe(model: Model, cells: Mapping[str, Any]) -> dict[str, Any]:
    training = {**model.recipe["training"], "save_strategy": "epoch", "save_total_limit": 1}
    lora = {**model.recipe["lora"], "r": RANK, "lora_alpha": 2 * RANK}
    return {**model.recipe, "lora": lora, "training": training, "seeds": SEEDS, "experiments": dict(cells)}


def _merged(*changes: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for change in changes:
        for section, own in change.items():
            found[section] = {**found.get(section, {}), **own}
    return found
