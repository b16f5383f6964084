"""The memory that this process uses, and the memory still available to it: on the CPU or on a GPU."""

from __future__ import annotations

import sys
from pathlib import Path

import psutil
import torch

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")
OWN_STATUS = Path("/proc/self/status")


def free_bytes(device: torch.device) -> int:
    """Return the memory that this process can still get on a device, in bytes."""
    if device.type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + cached
    available = int(psutil.virtual_memory().available)
    in_container = container_free_bytes()
    return available if in_container is None else min(available, in_container)


def container_free_bytes(root: Path = CGROUPS, own: Path = OWN_CGROUP) -> int | None:
    """Return how many more bytes the container's memory limits allow; None if there are no limits.

    psutil only knows the machine's memory, and a process that exceeds its container's limit is killed without
    a message.

    Args:
        root: mount point of cgroup v2.
        own: the file that names the control groups of this process.

    Source: https://docs.kernel.org/admin-guide/cgroup-v2.html, "Memory Interface Files".
    """
    try:
        entries = [line.split(":", 2) for line in own.read_text().splitlines()]
    except OSError:  # not Linux
        return None
    path = next((path for number, _, path in entries if number == "0"), "/")
    folder = root / path.lstrip("/")
    # In a namespace of its own, the path may not exist below the mount; then the mount is the group.
    folders = [folder, *folder.parents] if folder.is_dir() else [root]
    limits = (_left(each) for each in folders if each == root or root in each.parents)
    return min((left for left in limits if left is not None), default=None)


def _left(folder: Path) -> int | None:
    """Return how many more bytes a control group allows; None if unlimited.

    Inactive file pages count as free.
    """
    try:
        limit = (folder / "memory.max").read_text().strip()
        used = int((folder / "memory.current").read_text())
        values = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        inactive = int(values.get("inactive_file", 0))
    except (OSError, ValueError):
        return None
    return None if limit == "max" else max(0, int(limit) - used + inactive)


def used_bytes(device: torch.device) -> int:
    """Return the memory that this process uses on a device now, in bytes."""
    if device.type == "cuda":
        return int(torch.cuda.memory_allocated(device))
    return int(psutil.Process().memory_info().rss)


def peak_used_bytes(device: torch.device) -> int:
    """Return the peak memory of this process on a device so far, in bytes."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    return peak_process_bytes()


def peak_process_bytes() -> int:
    """Return the peak main memory of this process so far, in bytes.

    `ru_maxrss` is only used if the kernel has no better figure, because a process inherits the value of the
    process that started it, such as a notebook.
    """
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    try:
        status = dict(line.split(":", 1) for line in OWN_STATUS.read_text().splitlines())
        return int(status["VmHWM"].split()[0]) * 1024
    except (OSError, KeyError):  # for example on a Mac
        import resource  # not on Windows

        # kilobytes, but bytes on a Mac
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
