#!/usr/bin/env bash
# datasets 5.2.0: `load_from_disk(folder).map(f)` writes its cache into the saved folder itself, beside the
# data files and with their suffix. A pattern such as `folder/*.arrow` then reads every row twice, once as it
# was saved and once as `map` left it, and says nothing. The saved rows are only those that state.json lists.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check datasets==5.2.0
cd "$work"
HF_HOME="$work/home" HF_HUB_OFFLINE=1 "$work/venv/bin/python" - <<'PYTHON'
import json
import sys
from pathlib import Path

import datasets

datasets.disable_progress_bars()
print("datasets", datasets.__version__)
datasets.Dataset.from_dict({"text": ["one", "two", "three"]}).save_to_disk("saved")
datasets.load_from_disk("saved").map(lambda row: {"text": row["text"].upper()})
files = sorted(path.name for path in Path("saved").glob("*.arrow"))
print("*.arrow in the folder:", files)
listed = [entry["filename"] for entry in json.loads(Path("saved/state.json").read_text())["_data_files"]]
print("listed in state.json: ", listed)
read = datasets.load_dataset("arrow", data_files="saved/*.arrow", split="train")["text"]
print("load_dataset('arrow', data_files='saved/*.arrow'):", sorted(read))
as_stated = sorted(read) == ["ONE", "THREE", "TWO", "one", "three", "two"] and len(listed) == 1 and len(files) == 2
print("as stated" if as_stated else "NOT as stated")
sys.exit(0 if as_stated else 1)
PYTHON
