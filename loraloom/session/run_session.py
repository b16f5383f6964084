"""The start or resumption of a run, up to its plan: the same for `train` and `search`.

    create_session | resume_session ──▶ report_rows ──▶ require_checks ──▶ the command's plan ──▶ report_plan

Everything that determines how a run continues is in its folder from the start, so that it can be resumed
after a crash at any time.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from loraloom.checks.finding import Finding, raise_errors
from loraloom.data.files.data_names import name_of
from loraloom.data.files.part_files import PartContents
from loraloom.data.retain import read_retained
from loraloom.data.splitting.split import Split, split_examples, stored_because
from loraloom.recipe import Experiment, Recipe
from loraloom.recipe.reading import checks_newer_than, write_recipe
from loraloom.run.documents.checks import checks_text
from loraloom.run.documents.provenance import Provenance
from loraloom.run.events import (
    CheckResults,
    Note,
    Report,
    RowCounts,
    TrainingPlan,
    quiet,
)
from loraloom.run.folder import Run, create_run, fresh_folder
from loraloom.run.integrity import write_recorded
from loraloom.run.scratch import remove_leftovers
from loraloom.session import provenance as origin
from loraloom.session.answering_model import load_run_base
from loraloom.session.data_checks import DataCheckReport, check_data
from loraloom.session.device_list import devices_in_use
from loraloom.session.leaving import leave
from loraloom.session.locations import Relocation, relocated
from loraloom.session.material import Material, cut_notes, load_recipe_base, prepare
from loraloom.session.material_checks import check_material
from loraloom.session.resource_plan import report_resources
from loraloom.session.threads import set_threads
from loraloom.text.message import Message, joined


@dataclass(frozen=True)
class RunSession:
    """A run that this process has locked, and the material it was started with.

    Args:
        run: the locked run.
        recipe: its recipe, with the current locations of base and data.
        split: its rows.
        retained: rows to measure forgetting on; None if there are none.
        known: its provenance.
        is_resumed: whether the run was started by an earlier process.
    """

    run: Run
    recipe: Recipe
    split: Split
    retained: PartContents | None
    known: Provenance
    is_resumed: bool = False

    def with_provenance(self, known: Provenance) -> RunSession:
        """Write a new provenance to the run, and return the session with it."""
        write_recorded(self.run, self.run.provenance_file, known.text())
        return replace(self, known=known)

    def record_resume(self, report: Report, num_processes: int = 1) -> RunSession:
        """Record this process in the provenance of a resumed run, and report package versions that changed.

        Args:
            report: called with a note on changed versions.
            num_processes: number of processes that train together.
        """
        if not self.is_resumed:
            return self
        process = origin.process_record(self.known, num_processes)
        if changes := self.known.version_changes(process):
            report(
                Note(
                    message=Message(
                        "the run is resumed with different versions, so figures may differ from "
                        "those of an uninterrupted run: {changes}",
                        changes=joined("; ", changes),
                    )
                )
            )
        return self.with_provenance(self.known.with_process(process))

    def with_allowed(self, allowed: Collection[str]) -> RunSession:
        """Record that the user now also allows errors of these checks, and return the updated session."""
        if set(allowed) <= set(self.known.allowed):
            return self
        return self.with_provenance(self.known.allowing(allowed))


@contextmanager
def create_session(
    recipe: Recipe,
    out: Path | None,
    split: Split | None,
    *,
    suffix: str = "",
    allowed: Collection[str] = (),
    more: Mapping[str, Any] | None = None,
    note: str = "",
    is_resumable: bool = True,
    report: Report = quiet,
) -> Iterator[RunSession]:
    """Read a recipe's rows, then create a run and hold its lock while it is used.

    If this fails before there is anything to resume, nothing is left on disk; if reading is interrupted, the
    rows read so far are left, and the same command continues with them.

    Args:
        recipe: the recipe.
        out: the run directory; by default a new one below `runs/`.
        split: the recipe's data, if it is already split.
        suffix: suffix of the name of a new folder.
        allowed: names of checks whose errors become warnings.
        more: fields that the command adds to the provenance.
        note: note for other processes while this one holds the run, as in `Run.locked`.
        is_resumable: whether the command can resume the run; otherwise nothing is left if it fails.
        report: called with the progress of reading, if the rows are kept in files of the run.

    Raises:
        DataError: the rows are unusable.
        RunError: the run cannot be created.
    """
    allow_leakage = "leakage" in allowed
    if split is None and stored_because(recipe.data) is None:
        split = split_examples(recipe.data, allow_leakage=allow_leakage)
    retained = read_retained(recipe.data)
    remove_leftovers()
    run = create_run(out or fresh_folder(f"{name_of(recipe.data.train)}{suffix}"))
    with run.locked(note):
        try:
            if split is None:
                split = split_examples(
                    recipe.data, allow_leakage=allow_leakage, folder=run.rows, progress=noted(report)
                )
            write_recorded(run, run.recipe_file, write_recipe(recipe))
            write_recorded(run, run.split_file, split.record().text())
            known = origin.initial_provenance(recipe, split, retained, allowed).replaced(**(more or {}))
            yield RunSession(run, recipe, split, retained, known).with_provenance(known)
        except BaseException as error:
            leave(run, error, report, is_named=out is not None, is_resumable=is_resumable)
            raise


def noted(report: Report) -> Callable[[str], None]:
    """Return a function that reports each text it receives as a note."""
    return lambda message: report(Note(message=message))


def resume_session(
    run: Run,
    recipe: Recipe,
    known: Provenance,
    relocation: Relocation,
    report: Report,
    *,
    is_own: bool = True,
) -> RunSession:
    """Resume a run on the rows that it started with.

    Args:
        run: the locked run.
        recipe: its recipe, with the folder that its paths start from.
        known: its provenance.
        relocation: current locations of base and data that were moved.
        report: called with notes on changed locations.
        is_own: whether this process may write to the run's folder.

    Raises:
        DataError, RunError: the rows have changed.
    """
    if is_own:
        remove_leftovers()
    recipe, notes = relocated(run, recipe, known, relocation)
    for note in notes:
        report(Note(message=note))
    split = origin.run_split(run, recipe, known, is_own=is_own, progress=noted(report))
    retained = origin.run_retained(run, recipe, known)
    if newer := checks_newer_than(run.recipe_file):
        known = known.allowing(newer)
    return RunSession(run, recipe, split, retained, known, is_resumed=True)


def report_rows(
    session: RunSession, report: Report, *, shares_base: bool = False
) -> tuple[DataCheckReport, Material]:
    """Report and check the rows, then load the base and encode the rows.

    Args:
        session: the session; its recipe has the experiments to check.
        report: called with notes and sizes.
        shares_base: as in `load_recipe_base`.

    Raises:
        CheckError: the data has an error.
        LoRALoomError: the base is unusable, or differs from the run's.
    """
    recipe, split, known = session.recipe, session.split, session.known
    choices = known.decided
    set_threads(choices, devices_in_use(recipe, known))
    of_retained = [] if session.retained is None else session.retained.notes
    for note in [*split.notes, *(Message("data.retain: {note}", note=note) for note in of_retained)]:
        report(Note(message=note))
    report(RowCounts(train=len(split.train), eval=len(split.eval), test=len(split.test)))
    of_data = check_data(recipe, split, known.allowed, retained=session.retained)
    raise_errors(of_data.findings)
    base = (
        load_run_base(recipe, known, shares_base=shares_base)
        if session.is_resumed
        else load_recipe_base(recipe, choices, shares_base=shares_base)
    )
    material = prepare(recipe, split, base, session.retained, noted(report))
    for note in material.notes:
        report(Note(message=note))
    for note in cut_notes(material):
        report(Note(message=note))
    return of_data, material


def require_checks(
    session: RunSession,
    material: Material,
    of_data: DataCheckReport,
    report: Report,
    experiments: Sequence[Experiment] | None = None,
) -> list[Finding]:
    """Run the checks that need the base, and store and report all findings.

    Args:
        session: the session.
        material: base and rows.
        of_data: result of the data checks.
        report: called with the findings.
        experiments: experiments to check; by default all experiments of the material.

    Raises:
        CheckError: lists every error.
    """
    findings = check_material(material, of_data, experiments=experiments)
    _write_findings(session.run, findings)
    report(CheckResults(findings=findings))
    raise_errors(findings)
    return findings


def report_plan(
    session: RunSession, findings: Sequence[Finding], report: Report, num_processes: int = 1
) -> None:
    """Report choices and predicted resources, and store findings on memory and disk.

    Args:
        session: the session, with the plan in its provenance.
        findings: findings of the checks.
        report: called with the plan.
        num_processes: number of processes that train together now; the plan may be for another number.
    """
    known, resources = session.known, report_resources(session.known)
    _write_findings(session.run, [*findings, *resources])
    folder = str(session.run.folder)
    plan = None if known.prediction is None else known.prediction.for_processes(num_processes)
    report(TrainingPlan(folder=folder, choices=known.choices, plan=plan, findings=resources))


def _write_findings(run: Run, findings: Sequence[Finding]) -> None:
    write_recorded(run, run.checks_file, checks_text(findings))
