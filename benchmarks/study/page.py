"""The pages of the study, English and Chinese, from the same figures."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.study import cells
from benchmarks.study.cells import LORA, RATES, SEEDS, VARIANTS
from benchmarks.study.stages import Found, scores_of
from loraloom.run.documents.comparison import CLEAR, DECIDING, Difference

ENGLISH = {
    "title": "Is any variant better than plain LoRA?",
    "other": "[中文](study.zh.md)",
    "intro": (
        "Written by `make study`. {variants} variants at {rates} learning rates with {seeds} seeds "
        "each, all of rank 16 on all linears, trained in the bank; then other ranks and targets for "
        "plain LoRA and the best two. Learning rates are chosen on the eval rows. The test rows "
        "choose nothing; intervals are over test rows and seeds, 95 %, and p-values are corrected "
        "for the number of pairs."
    ),
    "eval": (
        "On the eval rows ({metric}): mean over seeds, and in brackets the spread from the worst to "
        "the best seed. – means that a training failed."
    ),
    "test": "On the {rows} test rows, each variant at its own learning rate:",
    "heads": (
        "variant|learning rate|{figure}|chrF beside plain LoRA|verdict|loss on retained rows|trained weights"
    ),
    "second": "Other ranks and targets, at the learning rates of above:",
    "second heads": "training|{figure}|loss on retained rows|trained weights",
    "none": "No variant differs from plain LoRA by more than luck on these rows.",
    "some": "Beside plain LoRA: {which}.",
    "itself": "–",
    "to": " to ",
}
CHINESE = {
    "title": "有没有比普通 LoRA 更好的变体？",
    "other": "[English](study.md)",
    "intro": (
        "由 `make study` 写出。{variants} 种变体，各取 {rates} 个学习率、{seeds} 个种子，秩均为 16，"
        "目标为全部线性层，在适配器库中一起训练；然后对普通 LoRA 和最好的两种变体试验其他的秩和目标模"
        "块。学习率在评估行上选定；测试行不参与任何选择。区间为 95 %，对测试行和种子计算；p 值按对数"
        "校正。"
    ),
    "eval": "评估行上的 {metric}：各种子的均值，括号中是从最差到最好的种子。– 表示有训练失败。",
    "test": "{rows} 行测试行上，每种变体用各自的学习率：",
    "heads": "变体|学习率|{figure}|chrF 与普通 LoRA 之差|结论|保留行上的损失|训练的权重数",
    "second": "其他的秩和目标模块，学习率同上：",
    "second heads": "训练|{figure}|保留行上的损失|训练的权重数",
    "none": "在这些行上，没有任何变体与普通 LoRA 的差异超出偶然。",
    "some": "与普通 LoRA 相比：{which}。",
    "itself": "–",
    "to": " 至 ",
}
VERDICTS = {
    "better": "更好",
    "worse": "更差",
    "higher": "更高",
    "lower": "更低",
    "no significant difference": "无显著差异",
    "too few rows": "行数太少",
    "nothing changed": "没有变化",
}


def write_pages(found: Sequence[Found], page: Path, chinese: Path) -> None:
    """Write both pages."""
    page.write_text(_page(found, ENGLISH, {}), encoding="utf-8")
    chinese.write_text(_page(found, CHINESE, VERDICTS), encoding="utf-8")


def _page(found: Sequence[Found], texts: Mapping[str, str], verdicts: Mapping[str, str]) -> str:
    intro = texts["intro"].format(variants=len(VARIANTS), rates=len(RATES), seeds=SEEDS)
    lines = [f"# {texts['title']}", "", texts["other"], "", intro, "", "    make study", ""]
    for each in found:
        lines += [f"## {each.model.title}", "", *_model(each, texts, verdicts)]
    return "\n".join(lines).rstrip() + "\n"


def _model(found: Found, texts: Mapping[str, str], verdicts: Mapping[str, str]) -> list[str]:
    metric = found.model.recipe["training"].get("metric_for_best_model", "eval_loss")
    figure = found.model.figure
    return [
        _conclusion(found, texts, verdicts),
        "",
        texts["test"].format(rows=found.compared.num_rows),
        "",
        *_table(texts["heads"].format(figure=figure).split("|"), _test_rows(found, texts, verdicts)),
        "",
        texts["eval"].format(metric=metric),
        "",
        *_table(["", *(f"{rate:g}" for rate in RATES)], _eval_rows(found)),
        "",
        texts["second"],
        "",
        *_table(texts["second heads"].format(figure=figure).split("|"), _second_rows(found, texts)),
        "",
    ]


def _conclusion(found: Found, texts: Mapping[str, str], verdicts: Mapping[str, str]) -> str:
    clear = {
        variant: difference.verdict
        for variant in found.best
        if (difference := _beside_lora(found, variant)) is not None and difference.verdict in CLEAR
    }
    if not clear:
        return texts["none"]
    which = ", ".join(f"{name}: {verdicts.get(verdict, verdict)}" for name, verdict in clear.items())
    return texts["some"].format(which=which)


def _beside_lora(found: Found, variant: str) -> Difference | None:
    """Return the difference of a variant from plain LoRA in chrF, each at its own rate."""
    own, plain = (cells.cell(name, found.best[name]) for name in (variant, LORA))
    for pair in found.compared.pairs:
        if pair.metric == DECIDING and {pair.model, pair.against} == {own, plain}:
            return pair if pair.model == own else pair.turned
    return None


def _test_rows(found: Found, texts: Mapping[str, str], verdicts: Mapping[str, str]) -> list[list[str]]:
    rows = []
    for variant, rate in found.best.items():
        name, difference = cells.cell(variant, rate), _beside_lora(found, variant)
        beside = [texts["itself"], ""]
        if difference is not None:
            interval = f"{difference.low:+.3g}{texts['to']}{difference.high:+.3g}"
            beside = [f"{difference.difference:+.3g} ({interval})", _verdict(difference, verdicts)]
        rows.append([variant, f"{rate:g}", _figure(found, name, texts), *beside, *_cost(found, name)])
    return rows


def _verdict(difference: Difference, verdicts: Mapping[str, str]) -> str:
    return f"{verdicts.get(difference.verdict, difference.verdict)} (p {difference.p_value:.2g})"


def _figure(found: Found, name: str, texts: Mapping[str, str], *, is_second: bool = False) -> str:
    compared = found.compared_second if is_second else found.compared
    own = compared.groups[name].figures[found.model.figure]
    return f"{own.mean:.4g} ({own.low:.4g}{texts['to']}{own.high:.4g})"


def _cost(found: Found, name: str, *, is_second: bool = False) -> list[str]:
    stage = found.second if is_second else found.grid
    own = [result for each, result in stage.experiments.items() if each.split("@")[0] == name]
    forgetting = [result.forgetting for result in own if result.forgetting is not None]
    weights = [_num_weights(result.adapter) for result in own if result.adapter is not None]
    return [
        f"{statistics.mean(forgetting):+.3f}" if forgetting else "–",
        f"{weights[0]:,}" if weights else "–",
    ]


def _num_weights(adapter: Path) -> int:
    from safetensors import safe_open

    with safe_open(adapter / "adapter_model.safetensors", "pt") as file:
        return sum(_product(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118


def _product(shape: Sequence[int]) -> int:
    number = 1
    for size in shape:
        number *= size
    return number


def _eval_rows(found: Found) -> list[list[str]]:
    rows = []
    for variant in VARIANTS:
        row = [variant]
        for rate in RATES:
            scores = scores_of(found.grid, cells.cell(variant, rate))
            known = [score for score in scores if score is not None]
            is_whole = len(known) == len(scores)
            text = f"{statistics.mean(known):.4g} ({min(known):.4g}–{max(known):.4g})" if is_whole else "–"
            row.append(f"**{text}**" if found.best.get(variant) == rate else text)
        rows.append(row)
    return rows


def _second_rows(found: Found, texts: Mapping[str, str]) -> list[list[str]]:
    names = [name for name in found.compared_second.groups if name != "base"]
    return [
        [name, _figure(found, name, texts, is_second=True), *_cost(found, name, is_second=True)]
        for name in names
    ]


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(line)} |" for line in (heads, ["---"] * len(heads), *rows)]
