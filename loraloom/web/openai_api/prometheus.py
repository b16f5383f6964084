"""Metrics of a server in Prometheus' text format, version 0.0.4."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator

from loraloom.serving.model_process import ModelProcess
from loraloom.web.body_limit import App, Event, Receive, Scope, Send

BUCKETS = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 60.0)


class Metrics:
    """Request counts, and metrics of the model process.

    Args:
        model: the model process.
    """

    def __init__(self, model: ModelProcess) -> None:
        self._model = model
        self._num_requests: Counter[tuple[str, int]] = Counter()
        self._num_within: Counter[float] = Counter()
        self._seconds = 0.0

    def counting(self, app: App) -> App:
        """Wrap an application to count requests by route, never by path, and to time their answers."""

        async def counted(scope: Scope, receive: Receive, send: Send) -> None:
            started = time.monotonic()

            async def sending(event: Event) -> None:
                if event["type"] == "http.response.start":
                    route = getattr(scope.get("route"), "path", "none")
                    self.count(route, event["status"], time.monotonic() - started)
                await send(event)

            await app(scope, receive, sending)

        return counted

    def count(self, route: str, status: int, seconds: float) -> None:
        """Count an answer.

        Args:
            route: path of the route, with placeholders.
            status: HTTP status.
            seconds: time until the answer began.
        """
        self._num_requests[route, status] += 1
        self._seconds += seconds
        self._num_within.update(bucket for bucket in BUCKETS if seconds <= bucket)

    def text(self) -> str:
        """Return all metrics in Prometheus' text format."""
        return "\n".join(self._lines()) + "\n"

    def _lines(self) -> Iterator[str]:
        figures, model = self._model.figures, self._model
        yield from _head("loraloom_requests_total", "counter", "Answered HTTP requests.")
        for (route, status), number in sorted(self._num_requests.items()):
            yield f'loraloom_requests_total{{route="{route}",status="{status}"}} {number}'
        name = "loraloom_response_seconds"
        yield from _head(name, "histogram", "Time until an answer begins.")
        for bucket in BUCKETS:
            yield f'{name}_bucket{{le="{bucket}"}} {self._num_within[bucket]}'
        total = sum(self._num_requests.values())
        yield f'{name}_bucket{{le="+Inf"}} {total}'
        yield f"{name}_sum {self._seconds:.6f}"
        yield f"{name}_count {total}"
        for name, kind, help, value in (
            ("loraloom_generated_tokens_total", "counter", "Generated tokens.", figures["generated_tokens"]),
            ("loraloom_decode_passes_total", "counter", "Passes of the decoder.", figures["decode_passes"]),
            ("loraloom_batch_rows", "gauge", "Answers in the batch.", figures["rows"]),
            ("loraloom_requests_under_way", "gauge", "Requests under way.", model.num_under_way),
            ("loraloom_requests_refused_total", "counter", "Refused requests.", model.num_refused),
            ("loraloom_model_restarts_total", "counter", "Replaced model processes.", model.num_restarts),
            ("loraloom_model_ready", "gauge", "Whether the model is loaded.", int(model.is_ready)),
            ("loraloom_models", "gauge", "The base and its adapters.", len(model.models)),
        ):
            yield from _head(name, kind, help)
            yield f"{name} {value}"


def _head(name: str, kind: str, help: str) -> tuple[str, str]:
    return f"# HELP {name} {help}", f"# TYPE {name} {kind}"
