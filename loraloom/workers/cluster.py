"""Workers on a Ray cluster: one per GPU of a node, or some that share its CPUs; nodes may join later.

Ray starts the processes, transfers bytes, and reports which processes have ended; everything else is the same
as for other workers. The call that starts a worker contains the files of the run that the worker needs. Base
and data are read by path, or sent through Ray's object store.
"""

from __future__ import annotations

import json
import signal
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from loraloom.recipe import Recipe
from loraloom.run.folder import Run
from loraloom.run.packing import packed
from loraloom.search.request import SPACE_FILE
from loraloom.session.locations import Relocation
from loraloom.text.message import Message, from_data
from loraloom.text.visible import one_line
from loraloom.training.pool import LOSSES_UNTIL_DIVIDED
from loraloom.training.waves import Wave, WorkerMessage
from loraloom.workers.cluster_nodes import Slot, slots_of, too_few_cpus
from loraloom.workers.ray_actor import WaveActor
from loraloom.workers.ray_options import RayOptions, not_installed
from loraloom.workers.sent_files import files_to_send

NODES_SECONDS = 2.0  # between two searches for new nodes
# Started workers that have not answered count as expected for this long: their CPUs may be in use.
EXPECTED_SECONDS = 120.0
# Consecutive workers that a node may lose before it is no longer used: more than a faulty experiment ends
# before it fails, first together with others and then alone.
MOST_LOSSES = 2 * LOSSES_UNTIL_DIVIDED + 2
SECONDS_TO_CLOSE = 2.0
THREADS = 4  # of an actor: to train, to report messages, and to be recalled


class RayWorker:
    """A worker in a Ray actor, as the driver sees it."""

    def __init__(self, ray: Any, actor: Any, slot: Slot, said: Mapping[str, Any], source: RayWorkers) -> None:
        self._ray, self._actor, self._slot, self._source = ray, actor, slot, source
        self.name, self.capacity = str(said["name"]), int(said["capacity"])
        self.loss = ""
        self._number, self._asked, self._wave = -1, None, None

    def start(self, wave: Wave) -> None:
        """Send a wave to the worker."""
        self._number = wave.number
        self._wave = self._actor.train.remote(wave.packed())

    def messages(self) -> Sequence[WorkerMessage]:
        """Return the worker's messages since the last call."""
        try:
            if self._asked is None:
                self._asked = self._actor.news.remote()
            if not self._ray.wait([self._asked], timeout=0)[0]:
                return ()
            told = self._ray.get(self._asked)
            self._asked = None
        except self._ray.exceptions.RayError as error:
            self.loss = Message("the worker's process or node has ended ({kind})", kind=type(error).__name__)
            return ()
        messages = [WorkerMessage.unpacked(content) for content in told]
        for message in messages:
            if message.kind == "failure":
                self.loss = message.problem
            elif message.kind == "end":
                self._source.forgive(self._slot)
        return messages

    def recall(self) -> None:
        """Ask the worker to return its wave after the current step."""
        self._actor.recall.remote(self._number)

    def dismiss(self) -> None:
        """End the worker's process."""
        end_actors(self._ray, [self._actor])
        self._source.leave(self._slot, is_lost=bool(self.loss))


class RayWorkers:
    """The workers on a Ray cluster.

    Args:
        options: the cluster's address, the number of CPUs per worker, and whether files are sent.
        run: the run, which has already been planned.
        recipe: recipe of the run, with the current locations of base and data.
        moved: the current locations of base and data that were moved.

    Raises:
        RunError: Ray is not installed, or no cluster answers.
    """

    def __init__(self, options: RayOptions, run: Run, recipe: Recipe, moved: Relocation) -> None:
        self._ray, self._is_own = connect(options)
        self._options, self._recipe, self._moved = options, recipe, moved
        self._run = _packed_run(run)
        self._opening: dict[Any, tuple[Any, Slot, float]] = {}
        self._used: Counter[Slot] = Counter()
        self._losses: Counter[str] = Counter()
        self._refused: dict[str, str] = {}
        self._too_small: set[str] = set()
        self._remarks: list[str] = []
        self._is_closed, self._looked = False, -NODES_SECONDS
        self._sent: list[tuple[str, Any]] | None = None

    @property
    def num_expected(self) -> int:
        """The number of workers that were started recently and have not answered yet."""
        self._look_for_nodes()
        now = time.monotonic()
        return sum(now - since < EXPECTED_SECONDS for _, _, since in self._opening.values())

    def newcomers(self) -> Sequence[RayWorker]:
        """Return the workers that have finished reading rows and base since the last call."""
        self._look_for_nodes()
        if not self._opening:
            return ()
        ready, _ = self._ray.wait(list(self._opening), num_returns=len(self._opening), timeout=0)
        found = []
        for reference in ready:
            actor, slot, _ = self._opening.pop(reference)
            try:
                said = json.loads(self._ray.get(reference))
                problem = from_data(said["problem"]) if "problem" in said else ""
            except self._ray.exceptions.RayError as error:
                problem = one_line(str(error).strip().rpartition("\n")[2]) or type(error).__name__
            if problem:
                self._refuse(slot, actor, problem)
            else:
                found.append(RayWorker(self._ray, actor, slot, said, self))
        return found

    def remarks(self) -> Sequence[str]:
        """Return notes on nodes that cannot take part."""
        said, self._remarks = self._remarks, []
        return said

    def why_none(self) -> str:
        """Return why nodes cannot be used; "" if no node was refused, or while a worker is still starting."""
        self._look_for_nodes()
        if self._opening or not self._refused:
            return ""
        return "; ".join(self._refused.values())

    def close(self) -> None:
        """End workers that are still starting; disconnect from the cluster if this object connected to it."""
        self._is_closed = True
        end_actors(self._ray, [actor for actor, _, _ in self._opening.values()])
        if self._is_own:
            self._ray.shutdown()

    def _look_for_nodes(self) -> None:
        if self._is_closed or time.monotonic() - self._looked < NODES_SECONDS:
            return
        self._looked = time.monotonic()
        for node in self._ray.nodes():
            if node["Alive"] and node["NodeID"] not in self._refused:
                slots = slots_of(node, self._options.num_cpus)
                for slot, number in slots.items():
                    for _ in range(number - self._used[slot]):
                        self._start(slot)
                if not slots:
                    self._note_too_small(node)

    def _start(self, slot: Slot) -> None:
        if self._sent is None:
            found = files_to_send(self._recipe) if self._options.sends_files else {}
            self._sent = [(path, self._ray.put(file.read_bytes())) for path, file in found.items()]
        self._used[slot] += 1
        strategy = self._ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(slot.node, soft=False)
        actor = self._ray.remote(WaveActor).options(
            num_cpus=slot.num_cpus,
            num_gpus=slot.num_gpus,
            max_concurrency=THREADS,
            scheduling_strategy=strategy,
        )
        made = actor.remote()
        moved = {"base": _text(self._moved.base), "data": _text(self._moved.data)}
        reference = made.open.remote(self._run, moved, self._sent, slot.num_beside)
        self._opening[reference] = made, slot, time.monotonic()

    def _refuse(self, slot: Slot, actor: Any, problem: str) -> None:
        end_actors(self._ray, [actor])
        if slot.node not in self._refused:
            said = Message("{worker} cannot take part: {problem}", worker=slot.host, problem=problem)
            self._refused[slot.node] = said
            self._remarks.append(said)

    def _note_too_small(self, node: Mapping[str, Any]) -> None:
        if node["NodeID"] in self._too_small:
            return
        self._too_small.add(node["NodeID"])
        said = too_few_cpus(node, self._options.num_cpus)
        self._remarks.append(said)
        if self._options.address == "local":  # no other node joins a cluster that was started here
            self._refused[node["NodeID"]] = said

    def forgive(self, slot: Slot) -> None:
        """Reset the number of workers that a node has lost, because one of its workers trained a wave."""
        self._losses[slot.node] = 0

    def leave(self, slot: Slot, *, is_lost: bool) -> None:
        """Make the slot of a worker available again, unless its node repeatedly loses workers."""
        self._used[slot] -= 1
        self._losses[slot.node] += is_lost
        if self._losses[slot.node] >= MOST_LOSSES and slot.node not in self._refused:
            said = Message(
                "node {worker} is no longer used, because {count} of its workers were lost",
                worker=slot.host,
                count=self._losses[slot.node],
            )
            self._refused[slot.node] = said
            self._remarks.append(said)


def connect(options: RayOptions) -> tuple[Any, bool]:
    """Connect to a cluster, or start one on this machine.

    Returns:
        The `ray` module, and whether this call made the connection.

    Raises:
        RunError: Ray is not installed, or no cluster answers.
    """
    try:
        import ray
        import ray.exceptions
        import ray.util.scheduling_strategies
    except ImportError:
        raise not_installed() from None
    if ray.is_initialized():
        return ray, False
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    address = None if options.address == "auto" else options.address
    try:
        options.reach()
        ray.init(address=address, log_to_driver=False, logging_level="ERROR", include_dashboard=False)
    except (ConnectionError, RuntimeError, ValueError, OSError, OverflowError) as error:
        raise options.no_answer(error) from None
    finally:
        for number, handler in handlers.items():  # Ray's own handlers end the process
            if signal.getsignal(number) is not handler:
                signal.signal(number, handler)
    return ray, True


def end_actors(ray: Any, actors: Sequence[Any]) -> None:
    """Let actors remove their files within a time limit, then end their processes."""
    asked = [actor.close.remote() for actor in actors]
    if asked:
        ray.wait(asked, num_returns=len(asked), timeout=SECONDS_TO_CLOSE)
    for actor in actors:
        ray.kill(actor)


def _packed_run(run: Run) -> bytes:
    files = (run.recipe_file, run.provenance_file, run.split_file, run.folder / SPACE_FILE)
    return packed({file.name: file.read_bytes() for file in files if file.is_file()})


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path.absolute())
