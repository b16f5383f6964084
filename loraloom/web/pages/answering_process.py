"""A process that answers prompts with a run's models: `python -m loraloom.web.pages.answering_process RUN`.

It reads one request per line and writes one answer per line, both JSON:

    {"id": "5f", "prompt": "…", "models": ["base", "wide"], "settings": {"max_new_tokens": 64}, "seed": 0}
    {"cancel": "5f"}
    ◀ {"models": ["base", "wide"], "settings": {…}}                         once, when they are loaded
    ◀ {"id": "5f", "answers": {"base": "…", "wide": "…"}, "done": false}    as they are generated
    ◀ {"id": "5f", "problems": [message, …]}

The models are in a process of their own, so that the pages stay responsive and do not end if memory runs out.
"""

from __future__ import annotations

import json
import queue
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from loraloom.errors import LoRALoomError
from loraloom.recipe import GenerationSettings
from loraloom.text.message import to_data

IDLE_SECONDS = 900
# Browsers need no more changes per second.
LEAST_SECONDS = 0.05


class _Cancelled(Exception):
    """The request was cancelled."""


class Requests:
    """The requests on standard input, read by a separate thread so that a running one can be cancelled."""

    def __init__(self, stream: IO[str]) -> None:
        self._waiting: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._cancelled: set[str] = set()
        threading.Thread(target=self._read, args=(stream,), daemon=True).start()

    def _read(self, stream: IO[str]) -> None:
        for line in stream:
            request = json.loads(line)
            if "cancel" in request:
                self._cancelled.add(request["cancel"])
            else:
                self._waiting.put(request)
        self._waiting.put(None)

    def next(self) -> dict[str, Any] | None:
        """Return the next request; None if the web server has ended, or none arrived in `IDLE_SECONDS`."""
        try:
            return self._waiting.get(timeout=IDLE_SECONDS)
        except queue.Empty:
            return None

    def raise_if_cancelled(self, id: str) -> None:
        """Raise an error if a request was cancelled."""
        if id in self._cancelled:
            raise _Cancelled


def main(run: Path) -> int:
    """Load the models of a run and answer requests until there are no more."""
    requests, out = Requests(sys.stdin), sys.stdout
    sys.stdout = sys.stderr  # output of libraries is not an answer

    def write(line: Mapping[str, Any]) -> None:
        out.write(json.dumps(to_data(line), ensure_ascii=False) + "\n")
        out.flush()

    try:
        from loraloom.session.answering_model import load_run

        loaded = load_run(run)
    except (LoRALoomError, OSError) as error:
        write({"problems": _problems(error)})
        return 1
    settings = loaded.recipe.generation
    write({"models": list(loaded.slots), "settings": settings.model_dump(), "notes": loaded.notes})
    while (request := requests.next()) is not None:
        _answer(loaded, request, requests, write)
    return 0


def _answer(loaded: Any, request: dict[str, Any], requests: Requests, write: Any) -> None:
    from loraloom.comparison.live_answers import answer_live

    id, last = request["id"], 0.0

    def on_text(texts: Mapping[str, str]) -> None:
        nonlocal last
        if time.monotonic() - last >= LEAST_SECONDS:
            write({"id": id, "answers": dict(texts), "done": False})
            last = time.monotonic()

    try:
        settings = GenerationSettings.model_validate(
            loaded.recipe.generation.model_dump() | request["settings"]
        )
        wanted = [name for name in request["models"] if name in loaded.slots] or list(loaded.slots)
        answers = answer_live(
            loaded,
            request["prompt"],
            wanted,
            settings,
            seed=request["seed"],
            on_text=on_text,
            on_token=lambda: requests.raise_if_cancelled(id),
        )
        write({"id": id, "answers": answers, "done": True})
    except _Cancelled:
        write({"id": id, "problems": []})
    except (LoRALoomError, OSError, RuntimeError, ValueError) as error:  # memory of a device, settings
        write({"id": id, "problems": _problems(error)})


def _problems(error: Exception) -> list[str]:
    if isinstance(error, LoRALoomError):
        return [problem.as_message() for problem in error.problems]
    return [f"{type(error).__name__}: {error}"]


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
