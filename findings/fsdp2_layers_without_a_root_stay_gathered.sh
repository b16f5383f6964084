#!/usr/bin/env bash
# torch 2.13.0: fully_shard() on each layer of a model, but not on the model itself, makes every layer a root of
# its own. The default reshard_after_forward=None means False for a root, so the weights of all layers stay
# gathered after a forward pass without gradients, and nothing of the memory is saved. No message says so.
# reshard_after_forward=True releases them, as does a root around the layers for all of them (not for its own).
#
# Seen (torch 2.13.0, gloo, one process):
#     default: gathered gathered
#     True: divided divided
#     default, with a root: divided divided
#
# Exit 0 while it is so; 1 if it has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0
cat > "$work/see.py" <<'PYTHON'
import os

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0", "RANK": "0", "WORLD_SIZE": "1"}
dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
mesh = init_device_mesh("cpu", (1,))


def see(name, has_root=False, **options):
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)).requires_grad_(False)
    for layer in model:
        fully_shard(layer, mesh=mesh, **options)
    if has_root:
        fully_shard(model, mesh=mesh)
    with torch.no_grad():
        model(torch.ones(1, 4))
    states = ("divided" if isinstance(layer.weight, DTensor) else "gathered" for layer in model)
    print(f"{name}: {' '.join(states)}")


see("default")
see("True", reshard_after_forward=True)
see("default, with a root", has_root=True)
PYTHON
found=$("$work/venv/bin/python" "$work/see.py" 2>/dev/null)
printf '%s\n' "$found"
[ "$found" = "default: gathered gathered
True: divided divided
default, with a root: divided divided" ]
