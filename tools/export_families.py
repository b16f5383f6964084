"""Try every family in every export format, and print the table of docs/export.md.

    python -m tools.export_families [--formats ctranslate2 …] [--kinds mt5 …]

Tiny models of random weights get an adapter of a few steps, and are exported with the proof in each format's
own runtime; GGUF files are of models with a spiece.model. A format that is not installed is left out. A cell
has how many greedy answers are those of base + adapter and the largest difference of a log-probability in
nats; or why the export is refused.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from loraloom.commands.export import export
from loraloom.errors import LoRALoomError
from loraloom.export.formats import FORMATS
from loraloom.text.catalogue import rendered
from tests.commands.conftest import DIRECTIONS
from tests.commands.trained import train_small
from tests.export.gguf_bases import make_gguf_base
from tests.families import TINY_FAMILIES
from tests.tiny import make_folder

# Kinds that llama.cpp has an architecture for.
OF_T5 = ("t5", "flan", "mt5", "umt5")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--formats", nargs="+", default=list(FORMATS), choices=list(FORMATS))
    parser.add_argument("--kinds", nargs="+", default=list(TINY_FAMILIES), choices=list(TINY_FAMILIES))
    options = parser.parse_args()
    formats = [name for name in options.formats if not FORMATS[name].missing(FORMATS[name].writes_with)]
    print(f"| family | {' | '.join(formats)} |\n|{'---|' * (1 + len(formats))}", flush=True)
    for kind in options.kinds:
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            make_folder(folder / "base", kind)
            usual = train_small(folder, folder / "base", **DIRECTIONS.get(kind, {}))
            runs = dict.fromkeys(formats, usual)
            if "gguf" in formats and kind in OF_T5:
                runs["gguf"] = train_small(folder / "of-gguf", make_gguf_base(folder / "gguf-base", kind))
            cells = [cell(run, folder / name, name) for name, run in runs.items()]
        print(f"| {kind} | {' | '.join(cells)} |", flush=True)


def cell(run: Path, out: Path, format: str) -> str:
    """What one export came to."""
    try:
        proof = export(run, out, format=format)["proof"]
    except LoRALoomError as error:
        problem = error.problems[0]
        return f"refused: {rendered(problem.found or problem.as_message())}"
    if proof is None:
        return "written, not verified"
    measured = proof["measured"]
    same = f"{measured['num_same_answers']} of {measured['num_answers']}"
    if measured["largest_difference"] is None:
        return same
    return f"{same}, {measured['largest_difference']:.0e}"


if __name__ == "__main__":
    sys.exit(main())
