"""Run the study and write docs/study.md and docs/study.zh.md; what is there already is resumed.

Ctrl-C and SIGTERM save before they end it.

    python -m benchmarks.study [--folder FOLDER] [--models starter] [--real FOLDER]

With --real, the lemmatizer of `python -m benchmarks.real --folder FOLDER` is studied too; `--models` without
a name leaves the starter out.
"""

from __future__ import annotations

import argparse
import signal
from pathlib import Path

import loraloom
from benchmarks.study import cells
from benchmarks.study.page import write_pages
from benchmarks.study.stages import study

DOCS = Path(__file__).parents[2] / "docs"


def main() -> None:
    """Train, compare, and write the pages."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--folder", type=Path, default=Path("runs/study"), help="where the runs are kept")
    parser.add_argument("--real", type=Path, help="the folder of `python -m benchmarks.real`")
    parser.add_argument("--docs", type=Path, default=DOCS)
    parser.add_argument("--models", nargs="*", choices=["starter"], default=["starter"])
    options = parser.parse_args()
    stop = loraloom.StopRequest()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.stop())
    try:
        run(options, stop)
    except loraloom.Interrupted as error:
        raise SystemExit(str(error)) from None


def run(options: argparse.Namespace, stop: loraloom.StopRequest) -> None:
    """Study the chosen models and write the pages."""
    found = []
    missing = [
        name for name, given in (("starter", options.models), ("real", options.real is not None)) if not given
    ]
    words = ["python -m benchmarks.study", *(["--models"] if not options.models else [])]
    words += ["--real FOLDER"] if options.real is not None else []
    if options.models:
        found.append(study(cells.starter(), options.folder / "starter", stop))
    if options.real is not None:
        found.append(study(cells.lemmatizer(options.real), options.folder / "lemmatizer", stop))
    write_pages(found, missing, " ".join(words), options.docs)


if __name__ == "__main__":
    main()
