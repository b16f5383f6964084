"""The pages of the study, English and Chinese, from the same figures."""

from __future__ import annotations

import math
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
        "{variants} variants ([what they are](variants.md)) at {rates} learning rates with {seeds} "
        "seeds each, all of rank 16 on all linears, trained in the bank; then other ranks and "
        "targets for plain LoRA and the best two. Learning rates and the best two are chosen on the "
        "eval rows. The test rows choose nothing; intervals are over test rows and seeds, 95 %, and "
        "p-values are corrected for the number of pairs."
    ),
    "eval": (
        "On the eval rows ({metric}): mean over seeds, and in brackets the lowest and the highest "
        "seed. – means that a training failed."
    ),
    "test": "On the {rows} test rows, each variant at its own learning rate:",
    "heads": (
        "variant|learning rate|{figure}|chrF beside plain LoRA|verdict|loss on retained rows|"
        "weights in its file"
    ),
    "second": "Other ranks and targets, at the learning rates of above:",
    "second heads": "training|{figure}|loss on retained rows|weights in its file",
    "none": "No variant differs from plain LoRA by more than luck on these rows.",
    "some": "Beside plain LoRA: {which}.",
    "shared rate": (
        "What looks like a difference between variants is one between learning rates. The best rates lie "
        "between {low:g} and {high:g}; at plain LoRA's own, {rate:g}, {worse} would end with an eval loss "
        "more than 10 % above plain LoRA's, and {diverged} with more than ten times as much."
    ),
    "shared rate, higher is better": (
        "The best rates lie between {low:g} and {high:g}; at plain LoRA's own, {rate:g}, {worse} would end "
        "with a {metric} more than 10 % below plain LoRA's, and {diverged} with less than half of it."
    ),
    "epochs": "Each training takes {epochs} epochs.",
    "nobody": "none",
    "base": "base, untrained",
    "written": "Written by:",
    "no rows": (
        "annalog, the other trained model of [these](real.md), is not in it: "
        "no rows with answers are at hand."
    ),
    "missing": "Not in it yet: {models}, for which the same command takes some hours.",
    "starter": "the starter",
    "real": "the lemmatizer of `make real`",
    "itself": "–",
    "to": " to ",
}
CHINESE = {
    "title": "有没有比普通 LoRA 更好的变体？",
    "other": "[English](study.md)",
    "intro": (
        "{variants} 种变体（[各是什么](variants.zh.md)），各取 {rates} 个学习率、{seeds} 个种子，秩均为 16，"
        "目标为全部线性层，在适配器库中一起训练；然后对普通 LoRA 和最好的两种变体试验其他的秩和目标模"
        "块。学习率和最好的两种变体在评估行上选定；测试行不参与任何选择。区间为 95 %，对测试行和种子计"
        "算；p 值按对数校正。"
    ),
    "eval": "评估行上的 {metric}：各种子的均值，括号中是各种子的最低值和最高值。– 表示有训练失败。",
    "test": "{rows} 行测试行上，每种变体用各自的学习率：",
    "heads": "变体|学习率|{figure}|chrF 与普通 LoRA 之差|结论|保留行上的损失|文件中的权重数",
    "second": "其他的秩和目标模块，学习率同上：",
    "second heads": "训练|{figure}|保留行上的损失|文件中的权重数",
    "none": "在这些行上，没有任何变体与普通 LoRA 的差异超出偶然。",
    "some": "与普通 LoRA 相比：{which}。",
    "shared rate": (
        "看上去是变体之间的差异，其实是学习率之间的差异。最佳学习率在 {low:g} 和 {high:g} 之间；若都用普通 "
        "LoRA 自己的 {rate:g}，{worse} 的评估损失会比普通 LoRA 高 10 % 以上，其中 {diverged} 高出十倍以上。"
    ),
    "shared rate, higher is better": (
        "最佳学习率在 {low:g} 和 {high:g} 之间；若都用普通 LoRA 自己的 {rate:g}，{worse} 的 {metric} 会"
        "比普通 LoRA 低 10 % 以上，{diverged} 不到它的一半。"
    ),
    "epochs": "每次训练 {epochs} 轮。",
    "nobody": "没有变体",
    "base": "基座，未训练",
    "written": "由以下命令写出：",
    "no rows": "[这几个](real.zh.md)训练过的模型中，annalog 不在其内：手头没有带答案的数据行。",
    "missing": "尚未包括：{models}；对它，同样的命令需要数小时。",
    "starter": "内置小模型",
    "real": "`make real` 的词形还原模型",
    "itself": "–",
    "to": " 至 ",
}
WORSE, DIVERGED = 1.1, 10  # times the eval loss of plain LoRA
LOWER, FALLEN = 0.9, 0.5  # times its figure, where higher is better
VERDICTS = {
    "better": "更好",
    "worse": "更差",
    "higher": "更高",
    "lower": "更低",
    "no significant difference": "无显著差异",
    "too few rows": "行数太少",
    "nothing changed": "没有变化",
}


def write_pages(found: Sequence[Found], missing: Sequence[str], command: str, folder: Path) -> None:
    """Write study.md and its Chinese twin.

    Args:
        found: by model.
        missing: models that were not studied, `starter` or `real`.
        command: the command that wrote the pages.
        folder: of the pages.
    """
    for name, texts, verdicts in (("study.md", ENGLISH, {}), ("study.zh.md", CHINESE, VERDICTS)):
        page = _page(found, missing, command, texts, verdicts)
        (folder / name).write_text(page, encoding="utf-8")


def _page(
    found: Sequence[Found],
    missing: Sequence[str],
    command: str,
    texts: Mapping[str, str],
    verdicts: Mapping[str, str],
) -> str:
    intro = texts["intro"].format(variants=len(VARIANTS), rates=len(RATES), seeds=SEEDS)
    lines = [
        f"# {texts['title']}",
        "",
        texts["other"],
        "",
        intro,
        "",
        texts["written"],
        "",
        f"    {command}",
        "",
    ]
    lines += [texts["no rows"], ""]
    if missing:
        models = ", ".join(texts[each] for each in missing)
        lines += [texts["missing"].format(models=models), ""]
    for each in found:
        title = each.model.chinese_title if verdicts else each.model.title
        lines += [f"## {title}", "", *_model(each, texts, verdicts)]
    return "\n".join(lines).rstrip() + "\n"


def _model(found: Found, texts: Mapping[str, str], verdicts: Mapping[str, str]) -> list[str]:
    metric, figure = _metric(found), found.model.figure
    epochs = found.model.recipe["training"]["num_train_epochs"]
    return [
        _conclusion(found, texts, verdicts),
        "",
        f"{_at_one_rate(found, texts)} {texts['epochs'].format(epochs=epochs)}",
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


def _at_one_rate(found: Found, texts: Mapping[str, str]) -> str:
    """Say what all variants would come to at plain LoRA's learning rate, on the eval rows."""
    rate = found.best[LORA]

    def mean(variant: str) -> float:
        scores = scores_of(found.grid, cells.cell(variant, rate))
        known = [score for score in scores if score is not None]
        failed = math.inf if found.model.lower_is_better else -math.inf
        return statistics.mean(known) if len(known) == len(scores) else failed

    others = [variant for variant in found.best if variant != LORA]
    lower = found.model.lower_is_better
    limits = [mean(LORA) * each for each in ((WORSE, DIVERGED) if lower else (LOWER, FALLEN))]
    worse, diverged = (
        [variant for variant in others if (mean(variant) > limit if lower else mean(variant) < limit)]
        for limit in limits
    )
    return texts["shared rate" if lower else "shared rate, higher is better"].format(
        low=min(found.best.values()),
        high=max(found.best.values()),
        rate=rate,
        worse=", ".join(worse) or texts["nobody"],
        diverged=", ".join(diverged) or texts["nobody"],
        metric=_metric(found),
    )


def _metric(found: Found) -> str:
    return str(found.model.recipe["training"].get("metric_for_best_model", "eval_loss"))


def _beside_lora(found: Found, variant: str) -> Difference | None:
    """Return the difference of a variant from plain LoRA in chrF, each at its own rate."""
    own, plain = (cells.cell(name, found.best[name]) for name in (variant, LORA))
    for pair in found.compared.pairs:
        if pair.metric == DECIDING and {pair.model, pair.against} == {own, plain}:
            return pair if pair.model == own else pair.turned
    return None


def _test_rows(found: Found, texts: Mapping[str, str], verdicts: Mapping[str, str]) -> list[list[str]]:
    rows = [[texts["base"], "–", _figure(found, "base", texts), "–", "", "–", "0"]]
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
    return f"{own.mean:.3f} ({own.low:.3f}{texts['to']}{own.high:.3f})"


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
        return sum(_product(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118 (it cannot be iterated)


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
            text = f"{statistics.mean(known):.3f} ({min(known):.3f}–{max(known):.3f})" if is_whole else "–"
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
