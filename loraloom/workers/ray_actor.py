"""The actor of a Ray worker: it reads a run's rows and base once, and trains wave after wave.

The module imports Ray only to fetch sent files: the driver turns the class into an actor
(`cluster.py`), and driver and actor exchange only bytes.
"""

from __future__ import annotations

import json
import os
import tempfile
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from loraloom.errors import LoRALoomError
from loraloom.run.folder import Run
from loraloom.run.packing import unpacked
from loraloom.run.scratch import ScratchFolder
from loraloom.session.locations import Relocation
from loraloom.text.message import Message, to_data
from loraloom.training.waves import Wave, WorkerMessage
from loraloom.workers.worker_loop import train_wave
from loraloom.workers.worker_material import WorkerMaterial, load_material, own_name

# Seconds that a call of `news` waits for messages.
PATIENCE_SECONDS = 1.0
RUN, BASE, DATA = "run", "base", "data"


class WaveActor:
    """A worker in a Ray process; its methods run in threads, so that it can respond while it trains."""

    def __init__(self) -> None:
        # Ray removes no files of an actor that it ends, so all are in this folder, until `close`.
        self._scratch = ScratchFolder()
        tempfile.tempdir = str(self._scratch.path)  # also for rows that are kept in temporary files
        self._material: WorkerMaterial | None = None
        self._told: deque[bytes] = deque()
        self._news = threading.Condition()
        self._recalled = -1

    def open(self, run: bytes, moved: Mapping[str, str | None], sent: Sequence[Any], num_beside: int) -> str:
        """Read the run's rows and base.

        Args:
            run: the run's files (recipe, provenance, split, search space) in one byte string.
            moved: the current locations of `base` and `data` on this machine, if they were moved.
            sent: for each file, its path below this actor's folder and a Ray reference to its content.
            num_beside: number of other workers that share this machine's memory.

        Returns:
            A JSON object with `name`, `capacity` and `device`; or with `name` and `problem`, if this worker
            cannot take part.
        """
        folder = self._scratch.path
        for name, content in unpacked(run).items():
            _write(folder / RUN / name, content)
        places = {key: None if path is None else Path(path) for key, path in moved.items()}
        if sent:
            import ray

            for path, reference in sent:
                _write(folder / path, ray.get(reference))
                places[Path(path).parts[0]] = folder / Path(path).parts[0]
        name = f"{own_name()}, process {os.getpid()}"
        try:
            relocation = Relocation(places.get(BASE), places.get(DATA))
            self._material = load_material(Run(folder / RUN), relocation, num_beside=num_beside)
        except LoRALoomError as error:
            return json.dumps({"name": name, "problem": to_data(error.as_message())})
        own = self._material
        return json.dumps({"name": name, "capacity": own.capacity, "device": own.device})

    def train(self, wave: bytes) -> None:
        """Train a wave; `news` returns the messages about it."""
        assert self._material is not None
        opened = Wave.unpacked(wave)
        try:
            train_wave(self._material, opened, self._tell, lambda: self._recalled == opened.number)
        except LoRALoomError as error:
            self._tell(WorkerMessage("failure", opened.number, problem=error.as_message()))
        except Exception as error:  # a bug; the driver continues without this worker
            said = Message("{kind}: {error}", kind=type(error).__name__, error=error)
            self._tell(WorkerMessage("failure", opened.number, problem=said))

    def news(self) -> list[bytes]:
        """Return the messages since the last call; wait briefly if there are none."""
        with self._news:
            if not self._told:
                self._news.wait(PATIENCE_SECONDS)
            found = list(self._told)
            self._told.clear()
        return found

    def recall(self, number: int) -> None:
        """Make `train` stop after the current step, if it is training the wave with this number."""
        self._recalled = number

    def close(self) -> None:
        """Remove the files of this worker; Ray then ends its process."""
        self._scratch.remove()

    def _tell(self, message: WorkerMessage) -> None:
        with self._news:
            self._told.append(message.packed())
            self._news.notify()


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
