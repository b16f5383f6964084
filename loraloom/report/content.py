"""The content of a report, read from a run's plain files and independent of the output format."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from loraloom.errors import RunError
from loraloom.recipe import Recipe
from loraloom.recipe.reading import read_run_recipe
from loraloom.report.comparison_reading import comparison_names, read_compared, read_prompts_compared
from loraloom.report.comparison_view import ComparisonView
from loraloom.report.effects import Effect, effects_of
from loraloom.report.json_files import DAMAGE
from loraloom.report.range_test import range_test_for, read_range_test
from loraloom.report.ranking import Ranking, rank
from loraloom.report.recommendation import Advice, advice_of, commented, only
from loraloom.report.search_view import SearchView, read_searched
from loraloom.report.training_view import TrainingView, read_trained
from loraloom.report.unfinished_comparisons import UnfinishedComparison, read_under_way
from loraloom.report.visible_text import is_absolute, last_part, paths_in, replace_known, without_folders
from loraloom.report.votes_view import VotesView, read_votes
from loraloom.run.documents.checks import Finding, read_checks
from loraloom.run.documents.choice import Choice
from loraloom.run.documents.provenance import BaseIdentity, Provenance
from loraloom.run.documents.range_test import RangeTest
from loraloom.run.documents.result import Result
from loraloom.run.documents.split import SplitRecord
from loraloom.run.folder import Run, open_run
from loraloom.run.resuming import how_to_resume
from loraloom.text.message import Message


@dataclass(frozen=True)
class Content:
    """The content of a run's report.

    Args:
        name: name of the run's folder.
        path: the run's path for commands that the report shows: as given if relative, else the name.
        base: name and fingerprints of the base; None if it was not loaded yet.
        rows: number of rows in `train`, `eval` and `test`.
        comparison: the comparison that is shown in full; None if there is none.
        prompts: other comparisons on prompts, newest first.
        under_way: comparisons that are running, or were interrupted.
        damaged: names of other comparisons whose files cannot be read.
        ranking: the experiments, best first; None if they cannot be ranked.
        effects: the effect of each setting that differs between experiments.
        search: the search and its trials, if the run is a search.
        range_test: range test of the learning rate: this run itself, or a run in the same parent folder
            whose result applies to this one.
        advice: the recommended experiment, and why.
        advised_recipe: that experiment as a recipe, without this machine's folders; empty if none is
            recommended.
        recipe: the recipe as YAML, without this machine's folders.
        checks: findings, most severe first.
        allowed: checks whose errors the user allowed.
        choices: automatic choices, with their reasons.
        cost: `steps`, `wall_seconds` and `peak_bytes` of a finished run; empty before it has finished.
        votes: blind votes cast by people.
    """

    name: str
    path: str
    started: str
    is_finished: bool
    base: BaseIdentity | None
    rows: dict[str, int]
    experiments: list[TrainingView]
    comparison: ComparisonView | None
    comparisons: list[str]
    prompts: list[ComparisonView]
    under_way: list[UnfinishedComparison]
    damaged: list[str]
    ranking: Ranking | None
    effects: list[Effect]
    search: SearchView | None
    range_test: RangeTest | None
    advice: Advice
    advised_recipe: str
    checks: list[Finding]
    allowed: list[str]
    recipe: str
    versions: dict[str, str]
    platform: str
    data: dict[str, str]
    choices: dict[str, Choice]
    cost: dict[str, float]
    votes: VotesView

    @property
    def notices(self) -> list[str]:
        """The notices about content that is not shown."""
        fix = Message("`loraloom compare` writes it again.")
        lost = [
            Message("The comparison `{name}` is damaged and not shown. {fix}", name=name, fix=fix)
            for name in self.damaged
        ]
        return [*(each.sentence for each in self.under_way), *lost]

    @property
    def is_range_test(self) -> bool:
        """Whether the run itself is a range test of the learning rate, which has nothing to compare."""
        return self.range_test is not None and self.range_test.run == self.name

    @property
    def checks_summary(self) -> str:
        """A sentence about how many checks gave no warning or error, and how many of these gave a note."""
        levels = Counter(finding.level for finding in self.checks)
        num_in_order = levels["ok"] + levels["note"]
        if not levels["note"]:
            return Message(
                "{num_in_order} of {num_checks} are in order.",
                num_in_order=num_in_order,
                num_checks=len(self.checks),
            )
        return Message(
            "{num_in_order} of {num_checks} are in order, {num_notes} with a note.",
            num_in_order=num_in_order,
            num_checks=len(self.checks),
            num_notes=levels["note"],
        )


def read_content(folder: Path, compare_name: str | None = None) -> Content:
    """Read the content of a report from a run's plain files.

    Args:
        folder: the run directory; the run may be unfinished.
        compare_name: comparison to show; by default one on test rows, else on eval rows, else on prompts.

    Raises:
        RunError: the folder is not a run, has no such comparison, or one of its files is damaged.
        RecipeError: its recipe is damaged.
    """
    run = open_run(folder)
    provenance = Provenance.read(run.provenance_file)
    try:
        return _content(run, provenance, read_compared(run, compare_name))
    except DAMAGE as error:
        raise RunError(
            Message(
                "the run's files are inconsistent ({name}: {error})", name=type(error).__name__, error=error
            ),
            where=str(run.folder),
            fix=Message("To verify and repair them, {how_to_resume}.", how_to_resume=how_to_resume(run)),
        ) from None


def _content(run: Run, provenance: Provenance, comparison: ComparisonView | None) -> Content:
    text = run.recipe_file.read_text(encoding="utf-8")
    recipe = read_run_recipe(run.recipe_file)
    shown_as = _known_paths(run, provenance, text)
    known = Provenance.model_validate(without_folders(provenance.to_json(), shown_as))
    checks = _checks(run, shown_as)
    result = _result(run, shown_as)
    trained = read_trained(run, known.seeds, {} if result is None else result.experiments, checks, shown_as)
    searched, tested = read_searched(run, provenance, shown_as), read_range_test(run)
    # A range test has no ranking, and a search ranks its trials itself until they are compared.
    current = None if comparison is None or comparison.is_stale else comparison
    is_ranked = tested is None and (searched is None or current is not None)
    ranking = rank(trained, current) if is_ranked else None
    advice = advice_of(recipe, current, searched)
    prompts, damaged = read_prompts_compared(run, comparison)
    return Content(
        name=run.folder.resolve().name,
        path=run.folder.resolve().name if run.folder.is_absolute() else str(run.folder),
        started=known.started,
        is_finished=run.is_finished,
        base=known.base,
        rows=_num_rows(run),
        experiments=trained,
        comparison=comparison,
        comparisons=comparison_names(run),
        prompts=prompts,
        under_way=read_under_way(run),
        damaged=damaged,
        ranking=ranking,
        effects=effects_of(recipe, ranking, current) if searched is None else [],
        search=searched,
        range_test=tested or range_test_for(run, provenance, recipe),
        advice=advice,
        advised_recipe=_advised(recipe, advice, shown_as),
        checks=checks,
        allowed=known.allowed,
        recipe=_recipe_text(text, shown_as),
        versions=known.versions,
        platform=known.platform,
        data=known.data | _retained(known),
        choices=known.choices,
        cost={} if result is None else {key: float(getattr(result, key)) for key in _COST_KEYS},
        votes=read_votes(run),
    )


def _advised(recipe: Recipe, advice: Advice, shown_as: Mapping[str, str]) -> str:
    """Return the recommended experiment as a recipe in YAML, without this machine's folders."""
    if advice.experiment is None:
        return ""
    where = Message("Paths are relative to the folder of the recipe that was trained.")
    return _recipe_text(commented(only(recipe, advice.experiment), advice.sentence, where), shown_as)


def _retained(provenance: Provenance) -> dict[str, str]:
    sha256 = provenance.retain or {}
    if isinstance(sha256, str):
        return {"data.retain": sha256}
    return {f"data.retain: {name}": own for name, own in sha256.items()}


_COST_KEYS = ("steps", "wall_seconds", "peak_bytes")
_LEVELS = ("error", "warning", "note", "ok")


def _result(run: Run, shown_as: Mapping[str, str]) -> Result | None:
    """Read how the run ended, without this machine's folders."""
    if not run.is_finished:
        return None
    return Result.model_validate(without_folders(Result.read(run.result_file).to_json(), shown_as))


def _checks(run: Run, shown_as: Mapping[str, str]) -> list[Finding]:
    """Read the findings, most severe first, without this machine's folders."""
    found = read_checks(run.checks_file) if run.checks_file.is_file() else []
    findings = [Finding(**without_folders(finding.to_json(), shown_as)) for finding in found]
    return sorted(findings, key=lambda finding: _LEVELS.index(finding.level))


def _known_paths(run: Run, provenance: Provenance, recipe: str) -> dict[str, str]:
    """Map absolute paths that may be in the run's files to what readers see instead."""
    retained = provenance.retain
    files = [*provenance.data, *(retained if isinstance(retained, dict) else ())]
    named = [*paths_in(yaml.safe_load(recipe)), *filter(is_absolute, files)]
    folders = [str(run.folder.resolve()), provenance.folder, str(Path.home())]
    return {folder: "…" for folder in folders if len(folder) > 1} | {
        path: f"…/{last_part(path)}" for path in named
    }


def _recipe_text(text: str, shown_as: Mapping[str, str]) -> str:
    """Return the YAML of a recipe, unchanged except that this machine's folders are removed."""
    shown = replace_known(text, shown_as)
    tree = yaml.safe_load(shown)
    if not list(paths_in(tree)):
        return shown
    # The YAML contains a path in another form, escaped or folded, so it is written again without it.
    return yaml.safe_dump(_hidden(tree), allow_unicode=True, sort_keys=False)


def _hidden(value: Any, key: str = "") -> Any:
    if isinstance(value, dict):
        return {inner: _hidden(item, str(inner)) for inner, item in value.items()}
    if isinstance(value, list):
        return [_hidden(item, key) for item in value]
    return f"…/{last_part(value)}" if list(paths_in(value, key)) else value


def _num_rows(run: Run) -> dict[str, int]:
    return SplitRecord.read(run.split_file).num_rows
