"""A container's limit counts, not the machine's memory alone."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest
import torch

from loraloom.base import available_memory
from loraloom.base.available_memory import container_free_bytes, free_bytes, peak_used_bytes, used_bytes

CPU = torch.device("cpu")


def group(folder: Path, limit: str, used: int, inactive: int = 0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon {used - inactive}\ninactive_file {inactive}\n")
    return folder


def own(folder: Path, text: str) -> Path:
    path = folder / "cgroup"
    path.write_text(text)
    return path


def test_a_limit_less_what_is_used(tmp_path: Path) -> None:
    root = tmp_path / "fs"
    group(root / "pods/mine", "1000", 400)
    assert container_free_bytes(root, own(tmp_path, "0::/pods/mine\n")) == 600


def test_pages_of_files_that_can_be_dropped_count_as_free(tmp_path: Path) -> None:
    root = tmp_path / "fs"
    group(root / "mine", "1000", 400, inactive=150)
    assert container_free_bytes(root, own(tmp_path, "0::/mine\n")) == 750


def test_the_tightest_limit_of_all_groups_above_counts(tmp_path: Path) -> None:
    root = tmp_path / "fs"
    group(root / "pods/mine", "max", 400)
    group(root / "pods", "900", 800)
    assert container_free_bytes(root, own(tmp_path, "0::/pods/mine\n")) == 100


def test_in_a_namespace_of_its_own_the_mount_is_the_group(tmp_path: Path) -> None:
    root = group(tmp_path / "fs", "1000", 1500)
    assert container_free_bytes(root, own(tmp_path, "0::/elsewhere\n")) == 0


@pytest.mark.parametrize("text", ["", "4:memory:/mine\n", "0::/\n"])
def test_without_a_limit_there_is_none(text: str, tmp_path: Path) -> None:
    (tmp_path / "fs").mkdir()
    assert container_free_bytes(tmp_path / "fs", own(tmp_path, text)) is None
    assert container_free_bytes(tmp_path / "fs", tmp_path / "missing") is None


def test_the_lower_of_machine_and_container_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(available_memory, "container_free_bytes", lambda: 7)
    assert free_bytes(CPU) == 7
    monkeypatch.setattr(available_memory, "container_free_bytes", lambda: None)
    assert 7 < free_bytes(CPU) <= psutil.virtual_memory().total


def test_what_is_used_is_at_most_the_peak() -> None:
    block = torch.ones(2**24)  # 64 MiB, touched
    # the kernel counts each thread's pages in batches, so the two may be some pages apart
    assert 64 * 2**20 < used_bytes(CPU) < peak_used_bytes(CPU) + 2**21
    assert len(block) == 2**24
