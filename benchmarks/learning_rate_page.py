"""The pages of the learning-rate rule, English and Chinese, from the same figures."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from pathlib import Path

from benchmarks.learning_rate import (
    BATCH,
    FACTORS,
    NUM_STEPS,
    RANK,
    RATES,
    WIDTH,
    Cell,
    Rule,
    best_rate,
    fit,
    loss_at,
)

PLAIN = 3e-4  # the default of `training.learning_rate`
ENGLISH = {
    "title": "A learning rate for LoRA on T5-like models",
    "other": "[中文](learning_rate.zh.md)",
    "intro": (
        "Written by `python -m benchmarks.learning_rate --docs docs`. {cells} cells, each a shape, a "
        "rank, targets, a batch size and a seed, with {rates} learning rates from {first:g} to "
        "{last:g} in one bank: {steps} steps with AdamW, a linear schedule, lora_alpha = 2 r, from "
        "the same start and over the same rows. The best rate of a cell is the lowest point of a "
        "parabola through the best eval loss and its neighbours. The models are mT5-like, of "
        "{widths} dimensions, pre-trained for {pretrained} steps by the starter's own code; the data "
        "are the starter's."
    ),
    "rule": "## The rule",
    "center": (
        "With d_model {width}, r {rank}, all linears and batches of {batch}: **{rate:.2g}**. From there:"
    ),
    "heads": "factor|best rate|95 % interval",
    "doubled": "{name} doubles",
    "few": "only q and v, instead of all linears",
    "names": "width rank batch",
    "spread": (
        "The best rate of a single cell lies within × {factor:.1f} of the rule's, for 95 % of the cells."
    ),
    "root": (
        "With lora_alpha a fixed multiple of r, the best rate falls with the root of the rank: 1/√2, 0.71, "
        "lies in the interval."
    ),
    "cost": (
        "Following the rule costs {rule:+.3f} nats of eval loss in the median cell, beside the "
        "cell's own best of the rates that were tried; {plain:g}, a usual choice, costs "
        "{usual:+.3f}."
    ),
    "study": (
        "For the lemmatizer of [the study](study.md), a Marian of {width} dimensions with data of "
        "its own, r 16 and batches of 16, the rule gives {rate:.2g}; of the five rates that were "
        "tried there, 0.003 was the best."
    ),
    "limits": (
        "For a T5-like base in a folder on this machine, `loraloom init` writes this rule's rate for "
        "its width, and says so; for a name of the hub it cannot, and the starter has a rate of its "
        "own. What the rule does not tell: these are small models, little pre-trained, and short "
        "trainings, which want a high rate; the widths of released models, 512 and more, are "
        "extrapolated. So `init` never writes more than the rate at d_model {width}, and `loraloom "
        "check RECIPE --find-lr` tries eight rates on your rows: trust it more."
    ),
    "cells": "## The cells",
    "cell heads": "d_model|r|targets|batch|seed|best rate|its loss|at {plain:g}|at the rule's rate",
}
CHINESE = {
    "title": "T5 类模型上 LoRA 的学习率",
    "other": "[English](learning_rate.md)",
    "intro": (
        "由 `python -m benchmarks.learning_rate --docs docs` 写出。共 {cells} 组，每组是一种模型宽度、"
        "秩、目标模块、批大小和随机种子，在同一个适配器库中训练从 {first:g} 到 {last:g} 的 {rates} 个"
        "学习率：AdamW 训练 {steps} 步，线性调度，lora_alpha = 2 r，起点和数据相同。每组的最佳学习率是"
        "过最低评估损失及其相邻两点的抛物线的最低点。模型为 {widths} 维的类 mT5 模型，用内置小模型的代"
        "码预训练 {pretrained} 步；数据为内置数据。"
    ),
    "rule": "## 规则",
    "center": "d_model {width}、r {rank}、全部线性层、批大小 {batch} 时：**{rate:.2g}**。在此基础上：",
    "heads": "因素|最佳学习率|95 % 区间",
    "doubled": "{name}加倍",
    "few": "只用 q 和 v，而不是全部线性层",
    "names": "宽度 秩 批大小",
    "spread": "95 % 的组，其最佳学习率在规则所给值的 {factor:.1f} 倍以内。",
    "root": "lora_alpha 是 r 的固定倍数时，最佳学习率随秩的平方根下降：1/√2，即 0.71，在区间之内。",
    "cost": (
        "与各组试过的最佳学习率相比，按规则取值在中位的组上使评估损失增加 {rule:+.3f} nat；常用的 "
        "{plain:g} 则增加 {usual:+.3f}。"
    ),
    "study": (
        "对于[研究](study.zh.md)中的词形还原模型（{width} 维的 Marian，用它自己的数据，r 16，批大小 "
        "16），规则给出 {rate:.2g}；那里试过的五个学习率中，0.003 最好。"
    ),
    "limits": (
        "基座是本机文件夹中的 T5 类模型时，`loraloom init` 按其宽度写入规则给出的学习率，并加以说明；对 "
        "hub 上的名称做不到，内置小模型有自己的学习率。规则不能说明的是：这些模型很小，预训练很少，训练"
        "也很短，因而需要较高的学习率；已发布模型的宽度（512 及以上）属于外推。因此 `init` 写入的值不会"
        "高于 d_model {width} 时的值；`loraloom check RECIPE --find-lr` 在你的数据上试八个学习率，应当更"
        "相信它。"
    ),
    "cells": "## 各组",
    "cell heads": "d_model|r|目标模块|批大小|种子|最佳学习率|其损失|{plain:g} 时|规则所给学习率时",
}


def write_pages(found: Mapping[Cell, Mapping[float, float]], num_pretrained: int, docs: Path) -> None:
    """Write docs/learning_rate.md and its Chinese twin."""
    rule = fit(found)
    for name, texts in (("learning_rate.md", ENGLISH), ("learning_rate.zh.md", CHINESE)):
        (docs / name).write_text(_page(found, rule, num_pretrained, texts), encoding="utf-8")


def _page(
    found: Mapping[Cell, Mapping[float, float]], rule: Rule, num_pretrained: int, texts: Mapping[str, str]
) -> str:
    widths = ", ".join(map(str, sorted({cell.width for cell in found})))
    intro = texts["intro"].format(
        cells=len(found),
        rates=len(RATES),
        first=RATES[0],
        last=RATES[-1],
        steps=NUM_STEPS,
        widths=widths,
        pretrained=num_pretrained,
    )
    center = texts["center"].format(width=WIDTH, rank=RANK, batch=BATCH, rate=10**rule.at_center)
    lost = [loss_at(rule.rate(cell), losses) - min(losses.values()) for cell, losses in found.items()]
    usual = [losses[PLAIN] - min(losses.values()) for losses in found.values()]
    cost = texts["cost"].format(rule=statistics.median(lost), plain=PLAIN, usual=statistics.median(usual))
    parts = [
        f"# {texts['title']}",
        texts["other"],
        intro,
        texts["rule"],
        center,
        _table(texts["heads"], _factors(rule, texts)),
        *([texts["root"]] if _falls_with_root(rule) else []),
        texts["spread"].format(factor=10 ** (2 * rule.deviation)),
        cost,
        texts["study"].format(width=WIDTH, rate=rule.rate(Cell(WIDTH, batch=16))),
        texts["limits"].format(width=WIDTH),
        texts["cells"],
        _table(texts["cell heads"].format(plain=PLAIN), _cells(found, rule)),
    ]
    return "\n\n".join(parts) + "\n"


def _falls_with_root(rule: Rule) -> bool:
    slope, half = rule.slopes["rank"]
    return bool(abs(slope - math.log10(0.5) / 2) < half)


def _factors(rule: Rule, texts: Mapping[str, str]) -> list[list[str]]:
    names = [texts["doubled"].format(name=name) for name in texts["names"].split()]
    rows = []
    for factor, name in zip(FACTORS, [*names, texts["few"]], strict=True):
        slope, half = rule.slopes[factor]
        low, middle, high = (10 ** (slope + change) for change in (-half, 0, half))
        rows.append([name, f"× {middle:.2f}", f"{low:.2f} – {high:.2f}"])
    return rows


def _cells(found: Mapping[Cell, Mapping[float, float]], rule: Rule) -> list[list[str]]:
    return [
        [
            *(str(cell.width), str(cell.rank), cell.targets, str(cell.batch), str(cell.seed)),
            *(f"{best_rate(losses):.2g}", f"{min(losses.values()):.3f}", f"{losses[PLAIN]:.3f}"),
            f"{loss_at(rule.rate(cell), losses):.3f} ({rule.rate(cell):.2g})",
        ]
        for cell, losses in found.items()
    ]


def _table(heads: str, rows: list[list[str]]) -> str:
    columns = heads.split("|")
    return "\n".join(f"| {' | '.join(line)} |" for line in (columns, ["---"] * len(columns), *rows))
