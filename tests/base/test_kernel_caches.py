"""What oneDNN remembers is bounded: memory must not grow with every new length of a batch."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from loraloom.base.kernel_caches import ENTRIES, VARIABLES, bound_kernel_caches
from loraloom.base.loading import load_base

MULTIPLIES_BFLOAT16 = any(
    torch.cpu.get_capabilities().get(unit) for unit in ("amx_bf16", "avx512_bf16", "avx512_f")
)
# Products of lengths that were never seen, before and after the caches are full.
GROWTH = """
import psutil, torch
from loraloom.base.kernel_caches import bound_kernel_caches
bound_kernel_caches()
weight = torch.ones(512, 512, dtype=torch.bfloat16)
def rss(lengths):
    for length in lengths:
        torch.ones(length, 512, dtype=torch.bfloat16) @ weight
    return psutil.Process().memory_info().rss
full = rss(range(1, 200))
print(rss(range(200, 700)) - full)
"""


def test_loading_a_base_bounds_them(tiny: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    load_base(str(tiny("mt5")))
    assert [os.environ[variable] for variable in VARIABLES] == [ENTRIES, ENTRIES]


def test_what_the_user_has_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLES[0], "512")
    monkeypatch.delenv(VARIABLES[1], raising=False)
    bound_kernel_caches()
    assert os.environ[VARIABLES[0]] == "512"
    assert os.environ[VARIABLES[1]] == ENTRIES


@pytest.mark.skipif(not MULTIPLIES_BFLOAT16, reason="this processor has no kernels for bfloat16 to remember")
def test_memory_stays_flat_once_they_are_full() -> None:
    environment = {key: value for key, value in os.environ.items() if key not in VARIABLES}
    done = subprocess.run(
        [sys.executable, "-c", GROWTH], env=environment, capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 100 * 2**20  # 8 to 43 MiB were seen; without the limit 345
