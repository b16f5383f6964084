"""The model process: reads requests from its standard input, and writes generated text to standard output.

    python -m loraloom.serving.worker

Each line is a JSON object, in both directions. The process ends when its input ends, so it never
outlives its server.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any, TextIO

import torch

from loraloom.errors import AdapterError, LoRALoomError
from loraloom.run.folder import open_run
from loraloom.serving.configuration import ModelConfiguration
from loraloom.serving.job import Job, JobError
from loraloom.serving.scheduler import Scheduler
from loraloom.serving.served_model import ServedModel
from loraloom.session import provenance as origin
from loraloom.session.adapter_folders import adapters_by_name, find_adapters, load_adapters
from loraloom.session.answering_model import load_run
from loraloom.session.locations import Relocation, relocated
from loraloom.text.message import Message, to_data

SECONDS_BETWEEN_FIGURES = 0.5
SECONDS_AFTER_OUT_OF_MEMORY = 5
# A single exception may be due to one request. If every step raises one, the device has failed.
MOST_FAILURES = 2
NICENESS = 5
FAILED = JobError(
    500, "internal_error", Message("the model failed on this request, or on one that was processed with it")
)
OUT_OF_MEMORY = JobError(
    503,
    "out_of_memory",
    Message("memory ran out; send shorter requests, or fewer at the same time"),
    retry_after=SECONDS_AFTER_OUT_OF_MEMORY,
)


def load_models(configuration: ModelConfiguration) -> tuple[ServedModel, list[str]]:
    """Load the models that a configuration names; return them, with notes for the user.

    Raises:
        LoRALoomError: the run, the base or an adapter is unusable.
    """
    model, notes = _loaded(configuration)
    for name, folder in configuration.changes:
        try:
            model.replace(name, None if folder is None else Path(folder))
        except JobError as error:
            notes.append(error.message)
    return model, notes


def _loaded(configuration: ModelConfiguration) -> tuple[ServedModel, list[str]]:
    base = None if configuration.base is None else Path(configuration.base)
    if configuration.run is None:
        given = find_adapters(configuration.base or "", configuration.adapters, sets=configuration.sets)
        loaded = load_adapters(given, Path())
        return ServedModel(loaded), [*given.notes, *loaded.notes]
    run = Path(configuration.run)
    opened = open_run(run)
    recipe, known = origin.run_recipe(opened)
    recipe, moved = relocated(opened, recipe, known, Relocation(base))
    model = ServedModel(load_run(run, recipe=recipe))
    named = adapters_by_name(configuration.adapters) if configuration.adapters else {}
    for name, folder in named.items():
        try:
            model.add(name, folder)
        except JobError as error:
            raise AdapterError(error.message, where=f"--adapter {name}={folder}") from None
    return model, [*moved, *model.loaded.notes]


class Worker:
    """The handler of the messages that a server sends to its model process.

    Args:
        model: the models.
        max_rows: maximum number of answers generated together.
        messages: stream of JSON lines; the worker ends at the end of the stream.
        answers: stream that JSON lines are written to.
    """

    def __init__(self, model: ServedModel, max_rows: int, messages: TextIO, answers: TextIO) -> None:
        self.scheduler = Scheduler(model, max_rows)
        self._answers = answers
        self._inbox: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._figures_due = 0.0
        self._num_failures = 0  # number of consecutive steps that raised an exception
        threading.Thread(target=self._read, args=(messages,), daemon=True).start()

    def run(self) -> None:
        """Answer messages until there are no more."""
        while True:
            arrived = self._arrived()
            gone = {message["id"] for message in arrived if message and message["do"] == "cancel"}
            for message in arrived:
                if message is None:
                    return
                if message["id"] not in gone:
                    self._answer(message)
            if gone:  # all at once, because each time the whole batch is copied
                self.scheduler.cancel(*gone)
                self._write({"events": [], "figures": self._figures()})
            if self.scheduler.has_work:
                events = self._step()
                if events or time.monotonic() >= self._figures_due or not self.scheduler.has_work:
                    self._write({"events": events, "figures": self._figures()})

    def _step(self) -> list[dict[str, Any]]:
        """Compute a step; if it fails, its requests get an error, and waiting requests stay in the queue."""
        try:
            events = self.scheduler.step()
        except Exception as error:
            traceback.print_exc()
            self._num_failures += 1
            if self._num_failures > MOST_FAILURES:
                raise
            is_out_of_memory = isinstance(error, MemoryError | torch.OutOfMemoryError)
            return self.scheduler.give_up(OUT_OF_MEMORY if is_out_of_memory else FAILED)
        self._num_failures = 0
        return events

    def _read(self, messages: TextIO) -> None:
        for line in messages:
            self._inbox.put(json.loads(line))
        self._inbox.put(None)

    def _arrived(self) -> list[dict[str, Any] | None]:
        """Return the messages that have arrived; wait for one if there is nothing else to do."""
        found = []
        if not self.scheduler.has_work:
            found.append(self._inbox.get())
        while not self._inbox.empty():
            found.append(self._inbox.get())
        return found

    def _answer(self, message: dict[str, Any]) -> None:
        kind, id = message["do"], message["id"]
        try:
            if kind == "answer":
                job = Job.from_json(message["job"])
                self.scheduler.submit(job)
                if job.is_streamed:  # so that a refusal is sent before a stream begins
                    self._write({"events": [{"id": id, "is_accepted": True}]})
            elif kind == "add":
                self.scheduler.add(message["name"], Path(message["folder"]))
                self._write({"events": [{"id": id, "models": self.scheduler.model.names}]})
            elif kind == "remove":
                self.scheduler.remove(message["name"])
                self._write({"events": [{"id": id, "models": self.scheduler.model.names}]})
        except JobError as error:
            self._write({"events": [{"id": id, "error": error.to_json()}]})
        except Exception:
            traceback.print_exc()
            self._write({"events": [{"id": id, "error": FAILED.to_json()}]})

    def _figures(self) -> dict[str, int]:
        self._figures_due = time.monotonic() + SECONDS_BETWEEN_FIGURES
        scheduler = self.scheduler
        return {
            "decode_passes": scheduler.batch.num_passes,
            "generated_tokens": scheduler.num_tokens,
            "rows": scheduler.num_rows,
        }

    def _write(self, value: dict[str, Any]) -> None:
        write_line(self._answers, value)


def write_line(stream: TextIO, value: dict[str, Any]) -> None:
    """Write one JSON object as a line of ASCII."""
    stream.write(json.dumps(value) + "\n")
    stream.flush()


def _give_way_to_server() -> None:
    """Lower the priority of this process, so that the server need not wait for a CPU if all are busy."""
    nice = getattr(os, "nice", None)  # Windows lacks it
    if nice is not None:
        nice(NICENESS)


def main() -> int:
    """Load the models of the configuration in the first message, and answer all other messages."""
    # Ctrl-C in a terminal reaches all its processes, and the server decides when this one ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _give_way_to_server()
    answers = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)  # what a library prints must not be mistaken for an answer
    messages = sys.stdin
    try:
        configuration = ModelConfiguration.from_json(json.loads(messages.readline()))
        model, notes = load_models(configuration)
    except LoRALoomError as error:
        write_line(
            answers, {"failed": {"kind": type(error).__name__, "message": to_data(error.as_message())}}
        )
        return 1
    except MemoryError:
        message = Message("there is too little memory for the model")
        write_line(answers, {"failed": {"kind": "ModelError", "message": to_data(message)}})
        return 1
    # A service manager sends SIGTERM to every process of a service: the server waits for answers first, and
    # this process ends with its input. During loading, SIGTERM is not ignored, because no input is read.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    worker = Worker(model, configuration.max_rows, messages, answers)
    ready = {"models": model.names, "notes": to_data(notes)}
    write_line(answers, {"ready": ready})
    worker.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
