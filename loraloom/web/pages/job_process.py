"""A job started from the web pages, in its own process: `python -m loraloom.web.pages.job_process FOLDER`.

    FOLDER/request.json    {"kind": "train", "recipe": "recipe.yaml", "out": "runs/mine-2026-11-28-1"}
    FOLDER/events.jsonl    events that it reports before and during its work, one per line
    FOLDER/outcome.json    {"status": "done" | "failed" | "stopped", "problems": [message, …], …}

Training that the pages start runs as it does from a terminal: the process holds the lock of its run, saves
and ends after SIGTERM, and continues if the web server ends.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from loraloom import api
from loraloom.errors import Interrupted, LoRALoomError
from loraloom.run.atomic import replace_text
from loraloom.run.events import BaseChoices, CheckResults, Event, Note, Report, RowCounts, WarningNote
from loraloom.run.folder import Run, now
from loraloom.run.resuming import is_search
from loraloom.text.message import Message, to_data

REQUEST, EVENTS, OUTCOME, LOG = "request.json", "events.jsonl", "outcome.json", "log.txt"
# Steps are in the run's own log.
_SHOWN = (BaseChoices, CheckResults, Note, RowCounts, WarningNote)


def run_job(folder: Path) -> int:
    """Run the job in `request.json` and write `outcome.json`; return the exit code."""
    request = json.loads((folder / REQUEST).read_text(encoding="utf-8"))

    def report(event: Event) -> None:
        if isinstance(event, _SHOWN):
            line = json.dumps(to_data(event.at(now()).to_json()), ensure_ascii=False)
            with (folder / EVENTS).open("a", encoding="utf-8") as file:
                file.write(line + "\n")

    outcome: dict[str, Any]
    try:
        with api.stop_on_signals(leaves_at_once=True) as stop:
            outcome = {"status": "done", "problems": [], **_work(request, report, stop)}
    except LoRALoomError as error:
        outcome = {"status": "failed", "problems": [problem.as_message() for problem in error.problems]}
    except Interrupted as error:
        outcome = {"status": "stopped", "problems": [error.as_message()]}
    except OSError as error:
        outcome = {
            "status": "failed",
            "problems": [
                Message("{reason}: {file}", reason=error.strerror or str(error), file=error.filename or "")
            ],
        }
    replace_text(folder / OUTCOME, json.dumps(to_data(outcome), ensure_ascii=False, indent=1))
    return 0 if outcome["status"] == "done" else 1


def _work(request: dict[str, Any], report: Report, stop: api.StopRequest) -> dict[str, Any]:
    match request["kind"]:
        case "check":
            found = api.check(request["recipe"], allowed=request.get("allowed", ()), report=report, stop=stop)
            return {
                "findings": [finding.to_json() for finding in found.findings],
                "batch": [row.to_json() for row in found.batch],
            }
        case "train":
            api.train(
                request["recipe"],
                out=request["out"],
                allowed=request.get("allowed", ()),
                report=report,
                stop=stop,
            )
        case "resume":
            resume = api.run_search if is_search(Run(Path(request["run_folder"]))) else api.train
            resume(resume=request["run_folder"], report=report, stop=stop)
        case "compare":
            api.compare(request["run_folder"], report=report, stop=stop)
    return {}


if __name__ == "__main__":
    sys.exit(run_job(Path(sys.argv[1])))
