"""demo: the whole workflow on the embedded starter, from checks to a report, in about a minute."""

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
    """Results of the demo.

    Args:
        run: the run directory.
        comparison: the comparison on the test rows.
        prompts: the comparison on the starter's three prompts.
        report_file: the report page.
    """

    run: Run
    comparison: Comparison
    prompts: Comparison
    report_file: Path


def demo(*, out: Path | None = None, report: Report = quiet, stop: StopRequest | None = None) -> Demo:
    """Train an adapter on the starter, compare it with the base on unseen rows, and write the report.

    The base and the adapter also answer the starter's three prompts.

    Args:
        out: the run directory; by default a new one below `runs/`.
        report: called with every event.
        stop: cancellation token; without one, SIGINT and SIGTERM request a stop.
    """
    outcome = train(read_recipe("starter"), out=out or fresh_folder("demo"), report=report, stop=stop)
    comparison = compare(outcome.run.folder, report=report, stop=stop)
    prompts = compare(outcome.run.folder, prompts_file=data_file("prompts"), report=report, stop=stop)
    return Demo(outcome.run, comparison, prompts, write_report(outcome.run.folder, report=report))
