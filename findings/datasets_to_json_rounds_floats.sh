#!/usr/bin/env bash
# Dataset.to_json of `datasets` 5.2.0 rounds every float to 10 decimal places, without a word: 1.5e-11
# becomes 0.0 and 2/3 becomes 0.6666666667. Read back with load_dataset("json"), the rows are changed.
# Dataset.to_csv of the same rows keeps them exactly. (to_json goes through pandas' to_json, whose
# default is double_precision=10.)
#
# Exit status 1 if the installed version behaves otherwise.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet datasets==5.2.0 pandas==3.1.1 pyarrow==26.0.1
cd "$folder"
cat > shown.py <<'EOF'
import csv
import sys

import datasets
import pandas
import pyarrow

datasets.disable_progress_bars()
print("datasets", datasets.__version__, "pandas", pandas.__version__, "pyarrow", pyarrow.__version__)
values = [1.5e-11, 2 / 3, 0.1234567890123456, 1e-5]
rows = datasets.Dataset.from_dict({"value": values})
rows.to_json("rows.jsonl")
rows.to_csv("rows.csv")
back = datasets.load_dataset("json", data_files="rows.jsonl", split="train", cache_dir="cache")["value"]
with open("rows.csv") as file:
    from_csv = [float(row["value"]) for row in csv.DictReader(file)]
print("written          ", values)
print("back from to_json", list(back))
print("back from to_csv ", from_csv)
as_stated = list(back) == [0.0, 0.6666666667, 0.123456789, 1e-5] and from_csv == values
print("as stated" if as_stated else "OTHERWISE than stated")
sys.exit(0 if as_stated else 1)
EOF
HF_HUB_OFFLINE=1 HF_HOME="$folder/home" "$folder/venv/bin/python" shown.py
