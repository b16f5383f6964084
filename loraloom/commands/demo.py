"""demo: the main job on the embedded starter, from checks to a report, in about a minute."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from loraloom.commands.compare import compare
from loraloom.commands.report import write_report
from loraloom.commands.train import train
from loraloom.recipe.reading import read_recipe
from loraloom.run.documents.comparison import Comparison
from loraloom.run.events import Report, quiet
from loraloom.run.folder import Run, fresh_folder
from loraloom.starter import data_file
from loraloom.training.signals import StopRequest


@dataclass(frozen=True)
class Demo:
    """What the demo made.

    Args:
        run: the run directory.
        comparison: as `compare` gives it, on the test rows.
        prompts: the same, of the starter's three prompts.
        report_file: the page to look at.
    """

    run: Run
    comparison: Comparison
    prompts: Comparison
    report_file: Path


def demo(*, out: Path | None = None, report: Report = quiet, stop: StopRequest | None = None) -> Demo:
    """Train an adapter on the starter, compare it with the base on unseen situations, write the report.

    The starter's three prompts are answered too, by base and adapter.

    Args:
        out: the run directory; by default a fresh one below `runs/`.
        report: told of every event.
        stop: the caller's own token to stop by; without one, SIGINT and SIGTERM ask to stop.
    """
    outcome = train(read_recipe("starter"), out=out or fresh_folder("demo"), report=report, stop=stop)
    comparison = compare(outcome.run.folder, report=report, stop=stop)
    prompts = compare(outcome.run.folder, prompts_file=data_file("prompts"), report=report, stop=stop)
    return Demo(outcome.run, comparison, prompts, write_report(outcome.run.folder, report=report))
