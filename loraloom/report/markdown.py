"""The report as Markdown, for pull requests."""

from __future__ import annotations

from collections.abc import Sequence

from loraloom.report import figures
from loraloom.report.comparison_view import AnsweredRow, ComparisonView, LanguagePairView
from loraloom.report.content import Content
from loraloom.report.effects import Effect
from loraloom.report.markdown_text import fenced, folded, label, plain, table, word
from loraloom.report.ranking import Place, Ranking
from loraloom.report.search_view import SearchView
from loraloom.report.training_view import TrainingView
from loraloom.report.votes_table import votes_table
from loraloom.run.documents.checks import Finding
from loraloom.run.documents.comparison import BASE_NAME, Difference
from loraloom.run.documents.range_test import RangeTest
from loraloom.text import units
from loraloom.text.catalogue import filled, rendered
from loraloom.text.message import Message
from loraloom.text.units import counted
from loraloom.text.visible import visible

SHOWN_ROWS = 3
SHOWN_PROMPTS = 10
SHOWN_TRIALS = 10


def render_markdown(content: Content) -> str:
    """Render verdicts, ranking, figures, effects of settings, and a few answers."""
    parts = [f"## {plain(content.name)}", _origin(content)]
    if not content.is_finished:
        parts.append(filled("Training has not ended; this is the state so far."))
    parts += map(plain, content.notices)
    parts += [f"- **{word('failed')}**: {plain(each.name)} {plain(each.reason)}" for each in _failed(content)]
    parts += _advice(content)
    if content.ranking is not None:
        parts.append(_ranking(content.ranking))
    if content.comparison is not None:
        parts.append(plain(content.comparison.significance))
    if content.search is not None:
        parts.append(_search(content.search))
    if content.range_test is not None:
        parts.append(_range_test(content.range_test, content.name))
    if content.comparison is None:
        parts.append(
            filled("No answers have been compared yet; run `loraloom compare {path}`.", path=content.path)
        )
    else:
        parts += _comparison(content.comparison)
    parts += [_prompts(asked, content) for asked in content.prompts]
    parts.append(votes_table(content.votes))
    parts += [_effects(content.effects), _training(content.experiments), _checks(content)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _failed(content: Content) -> list[TrainingView]:
    return [each for each in content.experiments if each.status == "failed"]


def _origin(content: Content) -> str:
    rows = ", ".join(f"{number:,} {part}" for part, number in content.rows.items())
    version = plain(content.versions.get("loraloom", ""))
    if content.base is None:
        return filled(
            "the base is not loaded yet; rows: {rows}; LoRALoom {version}", rows=rows, version=version
        )
    base = plain(content.base.name)
    return filled("base {base}; rows: {rows}; LoRALoom {version}", base=base, rows=rows, version=version)


def _advice(content: Content) -> list[str]:
    """Format the recommendation; there is none for a single experiment."""
    if not content.advice.sentence or not (content.ranking or content.search):
        return []
    sentence = f"**{plain(content.advice.sentence)}**"
    if not content.advised_recipe:
        return [sentence]
    title = filled("{experiment} as a separate recipe", experiment=plain(str(content.advice.experiment)))
    return [sentence, folded(title, fenced(content.advised_recipe.rstrip(), "yaml"))]


def _ranking(ranking: Ranking) -> str:
    head = [
        filled("experiment"),
        plain(label(ranking.metric)),
        filled("against the base"),
        filled("against the first"),
        filled("training"),
        filled("adapter"),
    ]
    return table(head, (_placed(number, place, ranking) for number, place in enumerate(ranking.places, 1)))


def _placed(number: int, place: Place, ranking: Ranking) -> list[str]:
    value = (
        figures.written(ranking.metric, place.value, place.deviation)
        if ranking.is_judged
        else units.figure(place.value)
    )
    share = "" if place.cost.share is None else f" ({rendered(units.percent(place.cost.share))})"
    return [
        f"{number}. {plain(place.experiment)}",
        value,
        _between(ranking.metric, place.from_base),
        _between(ranking.metric, place.from_best),
        f"{units.duration(place.cost.seconds)}{share}",
        units.size(place.cost.num_bytes),
    ]


def _between(key: str, pair: Difference | None) -> str:
    if pair is None:
        return units.NONE
    own, low, high = figures.written_difference(key, pair.difference, pair.low, pair.high)
    return f"{own} \\[{low}, {high}\\]<br>{word(pair.verdict)}"


def _search(search: SearchView) -> str:
    head = [filled("trial"), filled("status"), plain(search.metric), *map(plain, search.keys)]
    rows = [
        [
            plain(trial.name),
            word(trial.status),
            units.figure(trial.figure),
            *(plain(units.setting(trial.parameters.get(key))) for key in search.keys),
        ]
        for trial in search.trials[:SHOWN_TRIALS]
    ]
    failed = "\n".join(
        "- " + filled("{trial} failed: {reason}", trial=plain(trial.name), reason=plain(trial.reason))
        for trial in search.trials
        if trial.status == "failed"
    )
    more = len(search.trials) - len(rows)
    return "\n\n".join(
        filter(
            None,
            [
                table(head, rows),
                filled("and {num_trials} more trials", num_trials=more) if more > 0 else "",
                failed,
            ],
        )
    )


def _range_test(test: RangeTest, run: str) -> str:
    rows = [
        [
            f"{each.learning_rate:g}",
            filled("not finite") if each.eval_loss is None else f"{each.eval_loss:.4f}",
        ]
        for each in test.results
    ]
    losses = table(
        [filled("learning rate"), filled("eval loss (base {loss:.4f})", loss=test.base_eval_loss)], rows
    )
    reason = plain(test.reason)
    if test.run == run:
        return f"{filled('Range test of the learning rate: {reason}', reason=reason)}\n\n{losses}"
    title = filled("Range test of the learning rate ({run}): {reason}", run=plain(test.run), reason=reason)
    return f"{title}\n\n{losses}"


def _effects(effects: Sequence[Effect]) -> str:
    lines = [f"- `{effect.key}`: {rendered(effect.sentence)}" for effect in effects]
    return "\n".join([filled("Effects of the settings:"), *lines]) if lines else ""


def _comparison(compared: ComparisonView) -> list[str]:
    verdicts = "\n".join(
        f"- **{word(verdict.word)}**: {plain(verdict.sentence)}" for verdict in compared.verdicts
    )
    notes = "\n".join(f"- {plain(caution)}" for caution in compared.cautions)
    signatures = "\n".join(
        f"- {label(key)}: `{visible(signature)}`" for key, signature in compared.signatures.items()
    )
    return [
        verdicts,
        f"**{plain(compared.basis)}**",
        notes,
        _figures(compared),
        _languages(compared),
        folded(filled("How the figures were computed"), signatures) if signatures else "",
        _answers(compared),
    ]


def _figures(compared: ComparisonView) -> str:
    """Format figures as rows and experiments as columns, because pull requests are narrow."""
    return table(
        [filled("figure"), *map(plain, compared.groups)],
        [
            [
                plain(label(key)),
                *(_cell(compared, group, key) for group in compared.groups),
            ]
            for key in figures.ordered(compared.figures[BASE_NAME])
        ],
    )


def _languages(compared: ComparisonView) -> str:
    """Format chrF++, spBLEU and the loss on `data.retain`, one row per language pair and metric."""
    rows = [
        [
            f"{plain(name)} {plain(figures.described(key).label)}",
            f"{pair.num_rows:,}" if key != "retain_loss" else units.NONE,
            *(_pair_cell(pair, group, key) for group in compared.groups),
        ]
        for name, pair in compared.languages.items()
        for key in ("chrf_plus_plus", "spbleu", "retain_loss")
        if key in pair.figures[BASE_NAME]
    ]
    return table([filled("languages"), filled("rows"), *map(plain, compared.groups)], rows) if rows else ""


def _pair_cell(pair: LanguagePairView, group: str, key: str) -> str:
    text = figures.written(key, pair.figures[group].get(key))
    difference = pair.differences[group].get(key)
    if difference is None:
        return text
    own, low, high = figures.written_difference(key, difference.difference, difference.low, difference.high)
    return f"{text}<br>{own} \\[{low}, {high}\\]<br>{word(difference.verdict)}"


def _cell(compared: ComparisonView, group: str, key: str) -> str:
    deviation = compared.deviations.get(group, {}).get(key)
    text = figures.written(key, compared.figures[group].get(key), deviation)
    difference = compared.differences[group].get(key)
    if difference is None:
        return text
    own, low, high = figures.written_difference(key, difference.difference, difference.low, difference.high)
    verdict = figures.verdict_word(key, difference.verdict)
    return f"{text}<br>{own} \\[{low}, {high}\\]" + (f"<br>{word(verdict)}" if verdict else "")


def _prompts(asked: ComparisonView, content: Content) -> str:
    """Format answers to prompts, which are shown unfolded because somebody chose them."""
    title = (
        filled("Prompts") if len(content.prompts) == 1 else filled("Prompts: {name}", name=plain(asked.name))
    )
    parts = [f"### {title}"]
    if asked.is_stale:
        parts.append(plain(asked.cautions[0]))
    parts += [fenced(_answered(row)) for row in asked.rows[:SHOWN_PROMPTS]]
    more = len(asked.rows) - SHOWN_PROMPTS
    if more > 0:
        command = f"`loraloom report {content.path} --compare {asked.name} --format csv`"
        parts.append(
            filled("{rows} more: {command} writes them.", rows=counted(more, "row"), command=command)
        )
    return "\n\n".join(parts)


def _answers(compared: ComparisonView) -> str:
    rows = "\n\n".join(fenced(_answered(row)) for row in compared.rows[:SHOWN_ROWS])
    title = filled(
        "The first {num_shown} of {num_rows:,} rows, in order",
        num_shown=min(SHOWN_ROWS, len(compared.rows)),
        num_rows=compared.num_rows,
    )
    return folded(title, rows)


def _answered(row: AnsweredRow) -> str:
    lines = [f"{row.number}. {row.source}", *(f"{model}: {text}" for model, text in row.answers.items())]
    return "\n".join(
        lines
        if row.reference is None
        else [*lines, filled("reference: {reference}", reference=row.reference)]
    )


def _training(trained: Sequence[TrainingView]) -> str:
    heads = [filled("experiment"), filled("status"), filled("steps"), filled("kept"), filled("adapter")]
    lines = [f"| {' | '.join(heads)} |", "| --- | --- | ---: | ---: | ---: |"]
    for each in trained:
        kept = units.NONE if each.best_step is None else filled("step {step:,}", step=each.best_step)
        size = units.size(each.adapter.num_bytes if each.adapter else None)
        lines.append(f"| {plain(each.name)} | {word(each.status)} | {each.step:,} | {kept} | {size} |")
    return "\n".join(lines)


def _sentences(finding: Finding) -> str:
    if not finding.fix:
        return finding.message
    return Message("{message:clause}. {fix}", message=finding.message, fix=finding.fix)


def _checks(content: Content) -> str:
    loud = [finding for finding in content.checks if finding.level != "ok"]
    lines = [filled("Checks: {summary}", summary=content.checks_summary)]
    lines += [
        f"- **{word(finding.level)}** {plain(finding.where)}: {plain(_sentences(finding))}"
        for finding in loud
    ]
    return "\n".join(lines) if content.checks else ""
