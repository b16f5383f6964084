"""Questions to the models of a run, and the process that answers them."""

from __future__ import annotations

import contextlib
import json
import secrets
import subprocess
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from loraloom.run.folder import Run
from loraloom.run.own_process import module_command, module_environment
from loraloom.text.message import Message, from_data
from loraloom.web.pages.jobs import PAGES_FOLDER

MOST_KEPT = 200
LONGEST_PROMPT = 100_000
END_SECONDS = 5


@dataclass
class Question:
    """A prompt, and the answers so far.

    Args:
        id: its id, as used in URLs.
        run: name of the run.
        prompt: the prompt.
        is_blind: whether the models are hidden until there is a vote.
        order: the models in the order in which they are shown; empty until the first answers arrive.
        answers: answers by model.
        status: `waiting`, `answering`, `done` or `failed`.
        problems: the problems, if `status` is `failed`.
        version: number that increases with every change.
        vote: the chosen model; "" if the voter saw no difference; None before the vote.
    """

    id: str
    run: str
    prompt: str
    is_blind: bool
    order: tuple[str, ...] = ()
    answers: Mapping[str, str] = field(default_factory=dict)
    status: str = "waiting"
    problems: tuple[str, ...] = ()
    version: int = 0
    vote: str | None = None

    @property
    def is_over(self) -> bool:
        """Whether the answers no longer change."""
        return self.status in ("done", "failed")

    @property
    def is_hidden(self) -> bool:
        """Whether the names of the models must not be shown yet."""
        return self.is_blind and self.vote is None


@dataclass
class _Process:
    """A running process with the models of one run."""

    key: object
    popen: subprocess.Popen[str]
    models: tuple[str, ...] = ()
    questions: dict[str, Question] = field(default_factory=dict)


class Questions:
    """All questions to a server; only one run's models are loaded at a time, because a base is large.

    Args:
        runs: the folder of the runs.
    """

    def __init__(self, runs: Path) -> None:
        self._runs = runs
        self._known: OrderedDict[str, Question] = OrderedDict()
        self._process: _Process | None = None
        self._mutex = threading.RLock()

    def ask(
        self,
        run: Run,
        prompt: str,
        *,
        models: Sequence[str] = (),
        settings: Mapping[str, Any] | None = None,
        seed: int = 0,
        is_blind: bool = False,
    ) -> Question:
        """Send a prompt to the models of a run; return the question, to which their answers are added.

        Args:
            models: models that answer; by default all.
            settings: settings of `generation` that replace the run's.
            seed: seed for sampling.
            is_blind: whether to hide and shuffle the models.
        """
        question = Question(secrets.token_hex(8), run.folder.name, prompt, is_blind)
        line = {
            "id": question.id,
            "prompt": prompt,
            "models": list(models),
            "settings": dict(settings or {}),
            "seed": seed,
        }
        with self._mutex:
            self._known[question.id] = question
            while len(self._known) > MOST_KEPT:
                self._known.popitem(last=False)
            process = self._process_for(run)
            process.questions[question.id] = question
            self._write(process, line)
        return question

    def find(self, run: Run, id: str) -> Question | None:
        """Return the question with this id if it was asked about this run; otherwise None."""
        found = self._known.get(id)
        return found if found is not None and found.run == run.folder.name else None

    def cancel(self, question: Question) -> None:
        """Stop answering a question whose answers are no longer read."""
        with self._mutex:
            if self._process is not None and not question.is_over:
                self._write(self._process, {"cancel": question.id})

    def end(self) -> None:
        """End the process that has loaded the models, for example when the server shuts down."""
        with self._mutex:
            process, self._process = self._process, None
        if process is not None:
            _end(process.popen)

    def _process_for(self, run: Run) -> _Process:
        key = (str(run.folder), _adapters_state(run))
        current = self._process
        if current is not None and current.key == key and current.popen.poll() is None:
            return current
        if current is not None:
            _end(current.popen)
        log = self._runs / PAGES_FOLDER / "answering.log"
        log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with log.open("wb") as errors:
            popen = subprocess.Popen(
                module_command("loraloom.web.pages.answering_process", run.folder.resolve()),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                encoding="utf-8",
                env=module_environment(TOKENIZERS_PARALLELISM="false", PYTHONIOENCODING="utf-8"),
            )
        started = _Process(key, popen)
        threading.Thread(target=self._read, args=(started, log), daemon=True).start()
        self._process = started
        return started

    def _write(self, process: _Process, line: Mapping[str, Any]) -> None:
        assert process.popen.stdin is not None
        with contextlib.suppress(OSError):  # its end is noticed by the thread that reads
            process.popen.stdin.write(json.dumps(line, ensure_ascii=False) + "\n")
            process.popen.stdin.flush()

    def _read(self, process: _Process, log: Path) -> None:
        """Read the output of a process until it ends, then mark its unanswered questions as failed."""
        stream: IO[str] | None = process.popen.stdout
        assert stream is not None
        for text in stream:
            with contextlib.suppress(ValueError, KeyError), self._mutex:
                self._take(process, json.loads(text))
        process.popen.wait()
        last = log.read_text(encoding="utf-8", errors="replace").strip().split("\n")[-1][-500:]
        with self._mutex:
            for question in process.questions.values():
                said = Message("the process that answers questions has ended: {last}", last=last or "–")
                _fail(question, (said,))
            process.questions.clear()

    def _take(self, process: _Process, line: Mapping[str, Any]) -> None:
        if "id" not in line:
            process.models = tuple(line.get("models", ()))
            if "problems" in line:
                for question in process.questions.values():
                    _fail(question, tuple(map(from_data, line["problems"])))
            return
        if line["id"] not in process.questions:
            return
        question = process.questions[line["id"]]
        if "problems" in line:
            _fail(question, tuple(map(from_data, line["problems"])))
        else:
            question.answers = line["answers"]
            question.order = question.order or _order(question)
            question.status = "done" if line["done"] else "answering"
            question.version += 1
        if question.is_over:
            del process.questions[question.id]


def _order(question: Question) -> tuple[str, ...]:
    names = list(question.answers)
    if question.is_blind:
        secrets.SystemRandom().shuffle(names)
    return tuple(names)


def _fail(question: Question, problems: tuple[str, ...]) -> None:
    if not question.is_over:
        question.problems = problems
        question.status = "failed"  # last, because readers on other threads rely on it
        question.version += 1


def _end(popen: subprocess.Popen[str]) -> None:
    popen.terminate()
    try:
        popen.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        popen.kill()


def _adapters_state(run: Run) -> object:
    """Return a value that changes whenever the adapters of a run change."""
    folders = [run.adapters, run.checkpoints, run.result_file]
    return tuple(path.stat().st_mtime_ns for path in folders if path.exists())
