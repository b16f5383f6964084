"""The best learning rate of LoRA on T5-like models of several widths, ranks, targets and batch sizes.

    python -m benchmarks.learning_rate [--folder FOLDER] [--widths 64 128 256] [--seeds 1 2] [--pretrain 200]
        [--docs docs]

Each cell is one short training of seven learning rates in one bank, from the same start and over the same
rows; its best rate is the lowest point of a parabola through the best eval loss and its neighbours. Models
are pre-trained by the starter's own code, all for the same number of steps; without any steps, that of width
256 is the starter itself. The script can be stopped and started again: models and cells that are there are
kept. It prints the cells, the rule with 95 % intervals, and what following the rule costs in each cell.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

import loraloom

TOOLS = Path(__file__).parents[1] / "tools"
RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
NUM_STEPS = 40
WIDTH, RANK, BATCH = 256, 16, 8  # of the cell that the others are beside
FACTORS = ("width", "rank", "batch", "attention alone")
# Quantiles of Student's t distribution for a two-sided interval of 95 %, by degrees of freedom.
T95 = {1: 12.71, 2: 4.30, 3: 3.18, 4: 2.78, 5: 2.57, 6: 2.45, 8: 2.31, 10: 2.23, 15: 2.13, 20: 2.09, 30: 2.04}


@dataclass(frozen=True)
class Cell:
    """A shape, an adapter and a batch size.

    Args:
        width: d_model.
        rank: lora_alpha is twice the rank.
        targets: `all-linear`, or `q, v`.
        batch: examples in a step.
        seed: of A, of the order of rows and of dropout.
    """

    width: int
    rank: int = RANK
    targets: str = "all-linear"
    batch: int = BATCH
    seed: int = 1

    @property
    def name(self) -> str:
        """The name of its folder."""
        targets = self.targets.replace(", ", "")
        return f"d{self.width}-r{self.rank}-{targets}-b{self.batch}-s{self.seed}"

    @property
    def factors(self) -> list[float]:
        """What the rule is a function of: doublings of width, rank and batch; and whether targets are few."""
        return [
            math.log2(self.width / WIDTH),
            math.log2(self.rank / RANK),
            math.log2(self.batch / BATCH),
            float(self.targets != "all-linear"),
        ]


def cells(widths: Sequence[int], seeds: Sequence[int]) -> list[Cell]:
    """List the cells: one factor is changed at a time, and every seed comes after the one before."""
    return [
        Cell(width, **changes, seed=seed)
        for seed in seeds
        for changes in ({}, {"rank": 4}, {"rank": 64}, {"targets": "q, v"}, {"batch": 2}, {"batch": 32})
        for width in widths
    ]


def base_of(width: int, folder: Path, num_steps: int) -> Path:
    """Pre-train a model of some width as the starter is, or find it."""
    if width == WIDTH and num_steps == 0:
        return Path("starter")
    out = folder / f"base-d{width}-{num_steps}"
    if (out / "config.json").is_file():
        return out
    sys.path.insert(0, str(TOOLS))
    import torch
    from build_starter import build_model, save
    from starter_corpus import Corpus
    from starter_pretraining import draw_batches, pretrain
    from starter_tokenizer import SEED, build_tokenizer

    torch.manual_seed(SEED)
    corpus = Corpus()
    tokenizer = build_tokenizer(corpus)
    model = build_model(tokenizer.get_vocab_size(), width)
    print(f"pre-training d_model {width}: {num_steps} steps", flush=True)
    state = folder / f"state-d{width}-{num_steps}.pt"
    pretrain(model, draw_batches(corpus, tokenizer, 1_400), num_steps, 3e-3, state)
    save(model, tokenizer, out)
    return out


def losses_of(cell: Cell, base: Path, folder: Path) -> dict[float, float]:
    """Train a cell, or read what it came to: learning rate → eval loss."""
    file = folder / f"{cell.name}.json"
    if file.is_file():
        return {float(rate): loss for rate, loss in json.loads(file.read_text()).items()}
    recipe = folder / f"{cell.name}.yaml"
    recipe.write_text(yaml.safe_dump(recipe_of(cell, base)), encoding="utf-8")
    out = folder / cell.name
    result = loraloom.train(resume=out) if out.is_dir() else loraloom.train(recipe, out=out)
    found = {rate: result.experiments[f"lr-{rate:g}"].best_metric for rate in RATES}
    # An experiment that failed must not be taken for the minimum.
    losses = {rate: math.inf if loss is None else loss for rate, loss in found.items()}
    file.write_text(json.dumps(losses), encoding="utf-8")
    return losses


def recipe_of(cell: Cell, base: Path) -> dict[str, Any]:
    """Return the recipe of a cell: one experiment for each rate."""
    targets = cell.targets if cell.targets == "all-linear" else cell.targets.split(", ")
    return {
        "model_name_or_path": str(base),
        "data": {"train": "starter", "eval": 32, "max_source_length": 64, "max_target_length": 48},
        "lora": {"r": cell.rank, "lora_alpha": 2 * cell.rank, "target_modules": targets},
        "training": {
            "max_steps": NUM_STEPS,
            "per_device_train_batch_size": cell.batch,
            "eval_strategy": "steps",
            "eval_steps": NUM_STEPS,
            "save_strategy": "no",
        },
        "seed": cell.seed,
        "dtype": "float32",
        "experiments": {f"lr-{rate:g}": {"training": {"learning_rate": rate}} for rate in RATES},
    }


def best_rate(losses: Mapping[float, float]) -> float:
    """Return the lowest point of a parabola through the best rate and its neighbours, over log rates."""
    rates = sorted(losses)
    place = min(range(len(rates)), key=lambda number: losses[rates[number]])
    if place in (0, len(rates) - 1) or not math.isfinite(losses[rates[place + 1]]):
        return rates[place]
    x = [math.log10(rate) for rate in rates[place - 1 : place + 2]]
    a, b, _ = np.polyfit(x, [losses[rate] for rate in rates[place - 1 : place + 2]], 2)
    return float(10 ** np.clip(-b / (2 * a), x[0], x[2]))


@dataclass(frozen=True)
class Rule:
    """log10 of the best rate as a sum over factors, each with the half width of its 95 % interval."""

    at_center: float
    slopes: Mapping[str, tuple[float, float]]
    deviation: float

    def rate(self, cell: Cell) -> float:
        """Return the rate that the rule gives a cell."""
        slopes = [own for own, _ in self.slopes.values()]
        return float(10 ** (self.at_center + float(np.dot(slopes, cell.factors))))


def fit(found: Mapping[Cell, Mapping[float, float]]) -> Rule:
    """Fit the rule by least squares over all cells."""
    factors = np.array([[1.0, *cell.factors] for cell in found])
    wanted = np.array([math.log10(best_rate(losses)) for losses in found.values()])
    varied = [number for number in range(5) if number == 0 or np.ptp(factors[:, number]) > 0]
    chosen = factors[:, varied]
    solution, *_ = np.linalg.lstsq(chosen, wanted, rcond=None)
    freedom = max(1, len(wanted) - len(varied))
    variance = float(np.square(wanted - chosen @ solution).sum()) / freedom
    errors = np.sqrt(np.diag(variance * np.linalg.pinv(chosen.T @ chosen)))
    t = T95[max(known for known in T95 if known <= freedom)]
    slopes = dict.fromkeys(FACTORS, (0.0, math.inf))
    for number, own, error in zip(varied[1:], solution[1:], errors[1:], strict=True):
        slopes[FACTORS[number - 1]] = float(own), float(t * error)
    return Rule(float(solution[0]), slopes, math.sqrt(variance))


def loss_at(rate: float, losses: Mapping[float, float]) -> float:
    """Return the loss at a rate between those that were trained, on a line over log rates."""
    rates = [own for own in sorted(losses) if math.isfinite(losses[own])]
    return float(np.interp(math.log10(rate), np.log10(rates), [losses[own] for own in rates]))


def report(found: Mapping[Cell, Mapping[float, float]]) -> None:
    """Print cells and rule as Markdown."""
    rule = fit(found)
    print("| d_model | r | targets | batch | seed | best rate | its loss | at 3e-4 | at the rule's rate |")
    print("|---|---|---|---|---|---|---|---|---|")
    for cell, losses in found.items():
        best, own = best_rate(losses), rule.rate(cell)
        print(
            f"| {cell.width} | {cell.rank} | {cell.targets} | {cell.batch} | {cell.seed} | {best:.2g} | "
            f"{min(losses.values()):.3f} | {losses[3e-4]:.3f} | {loss_at(own, losses):.3f} ({own:.2g}) |"
        )
    print(f"\nd_model {WIDTH}, r {RANK}, all-linear, batch {BATCH}: {10**rule.at_center:.2g}")
    for name, (slope, half) in rule.slopes.items():
        low, middle, high = (10 ** (slope + change) for change in (-half, 0, half))
        of = "" if name == FACTORS[-1] else " each time it doubles"
        print(f"{name}: × {middle:.2f}{of} (95 %: {low:.2f} to {high:.2f})")
    print(f"a single cell's best rate is within × {10 ** (2 * rule.deviation):.1f} of it")


def main() -> None:
    """Run what is missing, and print what there is."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--folder", type=Path, default=Path("learning-rate"))
    parser.add_argument("--widths", type=int, nargs="+", default=[64, 128, 256])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--pretrain", type=int, default=200, help="steps of pre-training")
    parser.add_argument("--docs", type=Path, help="a folder for learning_rate.md and its Chinese twin")
    parser.add_argument("--report", action="store_true", help="print the cells that are there, train nothing")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    found = {}
    for cell in cells(options.widths, options.seeds):
        if options.report and not (options.folder / f"{cell.name}.json").is_file():
            continue
        base = base_of(cell.width, options.folder, options.pretrain)
        found[cell] = losses_of(cell, base, options.folder)
        print(cell.name, {f"{rate:g}": round(loss, 3) for rate, loss in found[cell].items()}, flush=True)
    report(found)
    if options.docs is not None:
        from benchmarks.learning_rate_page import write_pages

        write_pages(found, options.pretrain, options.docs)


if __name__ == "__main__":
    main()
