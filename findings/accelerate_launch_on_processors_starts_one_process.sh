#!/usr/bin/env bash
# `accelerate launch --cpu --num_processes 2` starts one process, and says nothing of it: without a GPU, and without
# --mpirun_hostfile, the number only sets MASTER_ADDR and MASTER_PORT. A script that was meant to train on two
# processes trains on one, with half of the batch. `torchrun --nproc-per-node 2` starts two.
#
# Seen (accelerate 1.15.0, torch 2.13.0):
#     accelerate launch: 1 process of 1, MASTER_PORT set: True, RANK set: False
#     torchrun: 2 processes of 2, MASTER_PORT set: True, RANK set: True
#     words about it: 0
#
# Exit 0 while it is so; 1 if it has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0 accelerate==1.15.0
cat > "$work/see.py" <<'PYTHON'
import os
import sys
from pathlib import Path

from accelerate import PartialState

state = PartialState(cpu=True)
facts = f"MASTER_PORT set: {'MASTER_PORT' in os.environ}, RANK set: {'RANK' in os.environ}"
Path(sys.argv[1], f"{os.getpid()}").write_text(f"{state.num_processes}, {facts}")
PYTHON
export HF_HOME=$work/home CUDA_VISIBLE_DEVICES=
count() {
  local files=("$work/$1"/*) word=processes
  [ ${#files[@]} = 1 ] && word=process
  echo "$2: ${#files[@]} $word of $(cat "${files[0]}")"
}
mkdir "$work/a" "$work/t"
"$work/venv/bin/accelerate" launch --cpu --num_processes 2 --num_machines 1 --mixed_precision no \
  --dynamo_backend no "$work/see.py" "$work/a" > "$work/said" 2>&1
"$work/venv/bin/torchrun" --nproc-per-node 2 "$work/see.py" "$work/t" > /dev/null 2>&1
seen="$(count a "accelerate launch")
$(count t torchrun)
words about it: $(grep -ciE 'process|mpi' "$work/said" || true)"
printf '%s\n' "$seen"
[ "$seen" = "accelerate launch: 1 process of 1, MASTER_PORT set: True, RANK set: False
torchrun: 2 processes of 2, MASTER_PORT set: True, RANK set: True
words about it: 0" ]
