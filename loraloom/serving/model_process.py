"""The server's interface to its model process, which is replaced if it ends."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from loraloom import errors
from loraloom.errors import LoRALoomError, ModelError
from loraloom.run.own_process import module_command, module_environment
from loraloom.serving.configuration import ModelConfiguration
from loraloom.serving.job import Job, JobError
from loraloom.serving.open_request import Answering
from loraloom.serving.pace import Pace
from loraloom.text.message import Message, from_data

MAX_LINE_BYTES = 64 << 20
RESTART_SECONDS = (0.0, 1.0, 5.0, 15.0)  # before each attempt after a death; the last for all others
RETRY_AFTER_SECONDS = 2
WAIT_FOR_RESTART_SECONDS = 60.0
EVENTS_A_TURN = 4  # a last event costs up to a millisecond, in which nothing else is answered


class ModelProcess:
    """The model process of a server, used from the server's event loop.

    Args:
        configuration: configuration of the process.
        max_waiting: maximum number of requests in the batch or waiting; further ones are refused.
        log: called with lines for the server's log.
    """

    def __init__(
        self,
        configuration: ModelConfiguration,
        max_waiting: int,
        log: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._configuration, self.max_waiting, self._log = configuration, max_waiting, log
        self._ids = itertools.count(1)
        self._under_way: dict[int, Answering] = {}
        self._ready = asyncio.Event()
        self._process: asyncio.subprocess.Process | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._finished_figures: dict[str, int] = {}
        self._figures: dict[str, int] = {}
        self._pace = Pace()
        self.models: list[str] = []
        self.notes: list[str] = []
        self.num_restarts = 0
        self.num_refused = 0
        self.started = time.time()

    @property
    def is_ready(self) -> bool:
        """Whether the model is loaded."""
        return self._ready.is_set()

    @property
    def was_ready(self) -> bool:
        """Whether the model was ever loaded; if its process has ended since, requests wait for a new one."""
        return bool(self.models)

    @property
    def num_under_way(self) -> int:
        """Number of requests in the batch or waiting."""
        return len(self._under_way)

    @property
    def is_full(self) -> bool:
        """Whether there are so many requests that the next one would be refused."""
        return len(self._under_way) >= self.max_waiting

    def refuse(self) -> JobError:
        """Count a request for which the queue has no room, and return the error that answers it."""
        self.num_refused += 1
        message = Message("{limit} requests are under way; try again later", limit=self.max_waiting)
        return JobError(429, "queue_full", message, retry_after=self._pace.seconds_until(self.max_waiting))

    @property
    def figures(self) -> dict[str, int]:
        """`decode_passes` and `generated_tokens` since the server started, and `rows` in the batch."""
        counted = {
            key: self._figures.get(key, 0) + self._finished_figures.get(key, 0)
            for key in ("decode_passes", "generated_tokens")
        }
        return {**counted, "rows": self._figures.get("rows", 0)}

    async def start(self) -> None:
        """Start the process and load the model.

        Raises:
            LoRALoomError: the run, the base or an adapter is unusable.
        """
        await self._launch()
        self._supervisor = asyncio.create_task(self._supervise())

    async def close(self) -> None:
        """End the process."""
        if self._supervisor is not None:
            self._supervisor.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._supervisor
        self._fail_all()
        process = self._process
        if process is not None and process.returncode is None:
            if not self.is_ready:
                process.kill()  # the process would finish loading the model before it noticed
            if process.stdin is not None:
                process.stdin.close()
            try:
                async with asyncio.timeout(5):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()

    async def submit(self, make_job: Callable[[int], Job]) -> Answering:
        """Send a request.

        Args:
            make_job: creates the request from its id.

        Raises:
            JobError: too many requests are under way, or the model is not ready.
        """
        if self.is_full:
            raise self.refuse()
        answering = self._open()
        try:
            await self._wait_until_ready()
            job = make_job(answering.id)
            answering.num_open = job.num_answers
            self._send({"do": "answer", "id": answering.id, "job": job.to_json()})
        except BaseException:
            answering.close(is_answered=True)
            raise
        return answering

    async def add(self, name: str, folder: str) -> list[str]:
        """Attach an adapter, and return the names of all models.

        Raises:
            JobError: the name or the folder is unusable.
        """
        models = await self._call({"do": "add", "name": name, "folder": folder})
        self._configuration = self._configuration.changed(name, folder)
        return models

    async def remove(self, name: str) -> list[str]:
        """Remove an adapter, and return the names of all models.

        Raises:
            JobError: there is no such adapter.
        """
        models = await self._call({"do": "remove", "name": name})
        self._configuration = self._configuration.changed(name, None)
        return models

    async def _call(self, message: dict[str, Any]) -> list[str]:
        answering = self._open()
        try:
            await self._wait_until_ready()
            self._send({**message, "id": answering.id})
            self.models = list((await answering.next())["models"])
            return self.models
        finally:
            answering.close(is_answered=True)

    def _open(self) -> Answering:
        answering = Answering(next(self._ids), self._release)
        self._under_way[answering.id] = answering
        return answering

    def _release(self, answering: Answering, is_answered: bool) -> None:
        is_generating = self._under_way.pop(answering.id, None) is not None
        if is_generating and not is_answered and self.is_ready:
            self._send({"do": "cancel", "id": answering.id})

    async def _wait_until_ready(self) -> None:
        try:
            async with asyncio.timeout(WAIT_FOR_RESTART_SECONDS):
                await self._ready.wait()
        except TimeoutError:
            raise JobError(
                503,
                "model_not_ready",
                Message("the model is not loaded; try again later"),
                retry_after=int(WAIT_FOR_RESTART_SECONDS),
            ) from None

    def _send(self, message: dict[str, Any]) -> None:
        process = self._process
        if process is not None and process.stdin is not None and not process.stdin.is_closing():
            process.stdin.write((json.dumps(message) + "\n").encode())

    async def _launch(self) -> None:
        """Start a process, and wait until its model is loaded."""
        self._process = process = await asyncio.create_subprocess_exec(
            *module_command("loraloom.serving.worker"),
            env=module_environment(),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=MAX_LINE_BYTES,
            start_new_session=True,  # a terminal's Ctrl-C is meant for the server alone
        )
        self._send(self._configuration.to_json())
        assert process.stdout is not None
        line = await process.stdout.readline()
        said = json.loads(line) if line else {}
        if "ready" not in said:
            await process.wait()
            raise _load_error(said.get("failed"))
        self.models = said["ready"]["models"]
        self.notes = [from_data(note) for note in said["ready"]["notes"]]
        self._ready.set()

    async def _supervise(self) -> None:
        """Deliver events, and replace a process that has ended."""
        num_failures = 0
        while True:
            if self.is_ready:
                num_failures = 0
                async for message in self._messages():
                    await self._deliver(message)
                self._ready.clear()
                self._log(Message("the model process has ended; it is being restarted"))
                self._keep_figures()
                self._fail_all()
                self.num_restarts += 1
            await asyncio.sleep(RESTART_SECONDS[min(num_failures, len(RESTART_SECONDS) - 1)])
            try:
                await self._launch()
            except (LoRALoomError, OSError) as error:
                num_failures += 1
                self._log(Message("the model process cannot be started: {error}", error=error))

    async def _messages(self) -> AsyncIterator[dict[str, Any]]:
        process = self._process
        assert process is not None
        assert process.stdout is not None
        while line := await process.stdout.readline():
            yield json.loads(line)
        await process.wait()

    async def _deliver(self, message: dict[str, Any]) -> None:
        """Deliver events, a few per iteration of the event loop, so that they do not delay its other work."""
        self._figures = message.get("figures", self._figures)
        for number, event in enumerate(message["events"]):
            if number % EVENTS_A_TURN == EVENTS_A_TURN - 1:
                await asyncio.sleep(0)
            answering = self._under_way.get(event["id"])
            if answering is None:
                continue
            answering.events.put_nowait(event)
            if event.get("reason"):
                answering.num_open -= 1
                if not answering.num_open:  # a client that reads slowly does not keep others out of the queue
                    del self._under_way[answering.id]
                    self._pace.count()

    def _keep_figures(self) -> None:
        counted = self.figures
        self._finished_figures = {key: counted[key] for key in ("decode_passes", "generated_tokens")}
        self._figures = {}

    def _fail_all(self) -> None:
        message = Message("the model process ended while it answered; send the request again")
        error = JobError(503, "model_process_ended", message, retry_after=RETRY_AFTER_SECONDS)
        for answering in list(self._under_way.values()):
            answering.events.put_nowait({"id": answering.id, "error": error.to_json()})


def _load_error(failed: dict[str, Any] | None) -> LoRALoomError:
    """Convert the error that the process reported before it ended; without one, return a general error."""
    if failed is None:
        return ModelError(Message("the model process ended while it loaded the model"))
    kind, message = getattr(errors, failed["kind"], ModelError), from_data(failed["message"])
    return kind(message) if issubclass(kind, LoRALoomError) else ModelError(message)
