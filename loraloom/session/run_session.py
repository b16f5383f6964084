"""How a run is begun or gone on with, up to its plan: the same for `train` and `search`.

    begin | reopen ──▶ look_at_rows ──▶ pass_checks ──▶ the verb's own plan ──▶ tell_plan

What decides how a run goes on lies in its folder from the first second, so that whatever dies later can be
resumed.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from loraloom.checks.finding import Finding, raise_errors
from loraloom.data.files.data_names import name_of
from loraloom.data.files.part_files import PartContents
from loraloom.data.retain import read_retained
from loraloom.data.splitting.split import Split, split_examples
from loraloom.errors import LoRALoomError
from loraloom.recipe import Experiment, Recipe
from loraloom.recipe.reading import checks_newer_than, write_recipe
from loraloom.run.documents.checks import checks_text
from loraloom.run.documents.provenance import Provenance
from loraloom.run.events import CheckResults, Note, Report, RowCounts, TrainingPlan, TrainStep, TrialStart
from loraloom.run.folder import Run, create_run
from loraloom.run.integrity import write_recorded
from loraloom.session import provenance as origin
from loraloom.session.answering_model import load_run_base
from loraloom.session.data_checks import DataCheckReport, check_data
from loraloom.session.locations import Relocation, relocated
from loraloom.session.material import Material, cut_notes, load_recipe_base, prepare
from loraloom.session.material_checks import check_material
from loraloom.session.resource_plan import report_resources

# Once the log has one of these, there is something to go on with.
FRUITFUL = (TrainStep, TrialStart)


@dataclass(frozen=True)
class RunSession:
    """A run that this process holds, and what it was begun with.

    Args:
        run: locked.
        recipe: its own, with what it names where it is now.
        split: its rows.
        retained: those to measure forgetting on.
        known: its provenance.
        is_resumed: whether another process began it.
    """

    run: Run
    recipe: Recipe
    split: Split
    retained: PartContents | None
    known: Provenance
    is_resumed: bool = False

    def knowing(self, known: Provenance) -> RunSession:
        """With another provenance, which is written too."""
        write_recorded(self.run, self.run.provenance_file, known.text())
        return replace(self, known=known)

    def going_on(self, report: Report) -> RunSession:
        """With this process as one more that worked on a resumed run; other versions than before are said."""
        if not self.is_resumed:
            return self
        process = origin.this_process(self.known)
        if changes := self.known.version_changes(process):
            report(
                Note(
                    message="the run goes on under other versions, so figures may differ from those of an "
                    f"uninterrupted run: {'; '.join(changes)}"
                )
            )
        return self.knowing(self.known.with_process(process))

    def allowing(self, allowed: Collection[str]) -> RunSession:
        """With checks whose errors the user allows now, beside those it was begun with."""
        if set(allowed) <= set(self.known.allowed):
            return self
        return self.knowing(self.known.allowing(allowed))


def run_name(recipe: Recipe) -> str:
    """What a run of this recipe is called."""
    return name_of(recipe.data.train)


@contextmanager
def create_session(
    recipe: Recipe,
    out: Path,
    split: Split | None,
    *,
    allowed: Collection[str] = (),
    more: Mapping[str, Any] | None = None,
    is_resumable: bool = True,
) -> Iterator[RunSession]:
    """Read a recipe's rows, then make a run of it and hold it while it is worked on.

    Nothing is left where it fails before there is something to go on with.

    Args:
        recipe: what to do.
        out: the run directory.
        split: where the caller has divided the recipe's data already.
        allowed: names of checks whose errors become warnings.
        more: what the verb adds to the provenance.
        is_resumable: whether the verb can go on with it; else nothing is left wherever it ends early.

    Raises:
        DataError: the rows are not usable.
        RunError: the run cannot be made.
    """
    split = split or split_examples(recipe.data, allow_leakage="leakage" in allowed)
    retained = read_retained(recipe.data)
    run = create_run(out)
    with run.locked():
        try:
            write_recorded(run, run.recipe_file, write_recipe(recipe))
            write_recorded(run, run.split_file, split.record().text())
            known = origin.at_start(recipe, split, retained, allowed).replaced(**(more or {}))
            yield RunSession(run, recipe, split, retained, known).knowing(known)
        except BaseException as error:
            is_fruitless = isinstance(error, LoRALoomError) and not _bore_fruit(run)
            if is_fruitless or not is_resumable:
                # Windows keeps a file that is held; a new run takes over what that leaves.
                shutil.rmtree(run.folder, ignore_errors=os.name == "nt")
            raise


def _bore_fruit(run: Run) -> bool:
    has_results = any(any(part.iterdir()) for part in (run.checkpoints, run.adapters))
    return has_results or any(isinstance(event, FRUITFUL) for event in run.events())


def resume_session(
    run: Run, recipe: Recipe, known: Provenance, relocation: Relocation, report: Report
) -> RunSession:
    """A run to go on with, on the rows that it was begun with.

    Args:
        run: locked.
        recipe: its own, in its folder.
        known: its provenance.
        relocation: what of its base and data was moved.
        report: told of what is in another place now.

    Raises:
        DataError, RunError: the rows are not as they were.
    """
    recipe, notes = relocated(run, recipe, known, relocation)
    for note in notes:
        report(Note(message=note))
    split = origin.run_split(run, recipe, known)
    retained = origin.run_retained(run, recipe, known)
    if newer := checks_newer_than(run.recipe_file):
        known = known.allowing(newer)
    return RunSession(run, recipe, split, retained, known, is_resumed=True)


def report_rows(begun: RunSession, report: Report) -> tuple[DataCheckReport, Material]:
    """What the rows say by themselves; then the base, and the rows as it reads them.

    Args:
        begun: the run; its recipe has the experiments to check.
        report: told of notes and sizes.

    Raises:
        CheckError: the data has an error.
        LoRALoomError: the base is not usable, or is another one than the run's.
    """
    recipe, split, known = begun.recipe, begun.split, begun.known
    choices = known.decided
    origin.set_threads(choices)
    of_retained = [] if begun.retained is None else begun.retained.notes
    for note in [*split.notes, *(f"data.retain: {note}" for note in of_retained)]:
        report(Note(message=note))
    report(RowCounts(train=len(split.train), eval=len(split.eval), test=len(split.test)))
    of_data = check_data(recipe, split, known.allowed, retained=begun.retained)
    raise_errors(of_data.findings)
    base = load_run_base(recipe, known) if begun.is_resumed else load_recipe_base(recipe, choices)
    material = prepare(recipe, split, base, begun.retained)
    for note in material.notes:
        report(Note(message=note))
    for note in cut_notes(material):
        report(Note(message=note))
    return of_data, material


def require_checks(
    begun: RunSession,
    material: Material,
    of_data: DataCheckReport,
    report: Report,
    experiments: Sequence[Experiment] | None = None,
) -> list[Finding]:
    """Every check, written down and told of.

    Args:
        begun: the run.
        material: base and rows.
        of_data: what was found on the rows alone.
        report: told of the findings.
        experiments: which to check; by default all of the material.

    Raises:
        CheckError: with every error.
    """
    findings = check_material(material, of_data, experiments=experiments)
    _write_findings(begun.run, findings)
    report(CheckResults(findings=findings))
    raise_errors(findings)
    return findings


def report_plan(begun: RunSession, findings: Sequence[Finding], report: Report) -> None:
    """Say what was decided and what it takes, and write down what that means for machine and disk.

    Args:
        begun: the run, its plan in what is known of it.
        findings: of the checks.
        report: told of the plan.
    """
    known, resources = begun.known, report_resources(begun.known)
    _write_findings(begun.run, [*findings, *resources])
    folder = str(begun.run.folder)
    report(TrainingPlan(folder=folder, choices=known.choices, plan=known.prediction, findings=resources))


def _write_findings(run: Run, findings: Sequence[Finding]) -> None:
    write_recorded(run, run.checks_file, checks_text(findings))
