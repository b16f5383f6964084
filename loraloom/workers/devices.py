"""Workers on the other devices of this machine: the driver starts one process for each device."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import torch

from loraloom.run.folder import Run
from loraloom.run.own_process import module_command, module_environment
from loraloom.session.locations import Relocation
from loraloom.text.message import Message
from loraloom.workers.file_workers import FileWorker, FileWorkers

# Seconds that dismissed workers may take to end.
END_SECONDS = 30.0


class DeviceWorkers(FileWorkers):
    """Workers on the given devices, one per device, plus all other workers that join the run.

    Args:
        run: the locked run, which has already been planned.
        devices: devices of the workers; the device of this process is not among them.
        moved: the current locations of base and data that were moved.
    """

    def __init__(self, run: Run, devices: Sequence[str], moved: Relocation) -> None:
        super().__init__(run)
        self._processes = {number: _start(run, device, moved) for number, device in enumerate(devices)}
        self._devices = list(devices)
        self._awaited = dict(self._processes)
        self._ready: dict[int, FileWorker] = {}

    @property
    def num_expected(self) -> int:  # type: ignore[override]
        """The number of started processes whose workers are not available yet."""
        return len(self._awaited)

    def newcomers(self) -> Sequence[FileWorker]:
        """Return newly available workers; those on the given devices come in the order of the devices."""
        found: list[FileWorker] = []
        numbers = {process.pid: number for number, process in self._awaited.items()}
        for worker in super().newcomers():
            number = numbers.get(pid_of(worker.folder))
            if number is None:
                found.append(worker)
            else:
                self._ready[number] = worker
        for number, process in list(self._awaited.items()):
            if number in self._ready:
                found.append(self._ready.pop(number))
            elif process.poll() is not None:
                self._remarks.append(
                    Message(
                        "the process for {device} ended with exit code {code} before it began to train",
                        device=self._devices[number],
                        code=process.returncode,
                    )
                )
            else:
                break  # later workers wait for it, so that experiments are on the planned devices
            del self._awaited[number]
        return found

    def close(self) -> None:
        """Dismiss workers that are not available yet; wait for all processes, and terminate slow ones."""
        super().close()
        for process in self._processes.values():
            try:
                process.wait(END_SECONDS if process.poll() is None and not self._awaited else 1.0)
            except subprocess.TimeoutExpired:
                process.terminate()
                process.wait()


def _start(run: Run, device: str, moved: Relocation) -> subprocess.Popen[bytes]:
    words: list[str | Path] = [run.folder.absolute(), "--device", device]
    for option, path in (("--base", moved.base), ("--data", moved.data)):
        if path is not None:
            words += [option, path.absolute()]
    command = module_command("loraloom.workers", *words)
    # A worker sends its messages to the process of the run.
    quiet = subprocess.DEVNULL
    # The processes on the processor share its threads: this one already has its share.
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())} if device == "cpu" else {}
    return subprocess.Popen(command, stdin=quiet, stdout=quiet, env=module_environment(**threads))


def pid_of(folder: Path) -> int:
    """Return the process id in the name of a worker's folder; 0 if there is none."""
    parts = folder.name.rsplit("-", 2)
    return int(parts[1]) if len(parts) == 3 and parts[1].isdigit() else 0
