"""Requests that Schemathesis makes from the OpenAPI document of a running server, alone and in sequences."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import schemathesis
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import events, from_schema

from tests.web.live import TOKEN, LiveServer

STEPS = 8  # of a sequence
MOST_TOKENS = 6  # of an answer, so that thousands take minutes
CHECKS = {
    "not_a_server_error": {"expected-statuses": ["2xx", "4xx", "503"]},
    # A prompt may be too long for the model, and two values may exclude each other: no schema can say so.
    "positive_data_acceptance": {"enabled": False},
    # Some requests that are invalid are also too large, which is looked at first.
    "negative_data_rejection": {
        "expected-statuses": [
            "400",
            "401",
            "403",
            "404",
            "405",
            "406",
            "409",
            "413",
            "415",
            "422",
            "429",
            "503",
        ]
    },
}


@dataclass
class Fuzzed:
    """What became of the requests.

    Args:
        statuses: how often each operation answered with each status.
        problems: answers that the document does not allow, and requests that could not be sent.
    """

    statuses: Counter[tuple[str, int]] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    @property
    def succeeded(self) -> set[str]:
        """Operations that succeeded at least once."""
        return {label for (label, status) in self.statuses if status < 300}


def fuzz(server: LiveServer, phases: dict[str, int], *, seed: int | None) -> Fuzzed:
    """Send requests, and check every answer against the OpenAPI document.

    Args:
        phases: `fuzzing` and `stateful` -> examples of an operation, and sequences; `coverage` -> 0, because
            it sends every kind of value that the document names.
        seed: of the requests; None for others every time.
    """
    generation: dict[str, Any] = {"database": "none", "no-shrink": True, "deterministic": seed is not None}
    config = {
        "base-url": server.address,
        "headers": {"Authorization": f"Bearer {TOKEN}"},
        "request-timeout": 60,
        "checks": CHECKS,
        "continue-on-failure": True,
        "generation": generation,
        "phases": {
            "enabled": False,
            **{
                name: {"enabled": True, "generation": {"max-examples": number} if number else {}}
                for name, number in phases.items()
            },
        },
        **({} if seed is None else {"seed": seed}),
    }
    if "stateful" in phases:
        config["phases"]["stateful"]["max-steps"] = STEPS  # type: ignore[index]
    schema: Any = schemathesis.openapi.from_url(
        f"{server.address}/openapi.json",
        headers=config["headers"],
        config=SchemathesisConfig.from_dict({**config}),
    )
    fuzzed = Fuzzed()
    for event in from_schema(schema).execute():
        if isinstance(event, events.ScenarioFinished):
            _count(event.recorder, fuzzed)
        elif isinstance(event, events.NonFatalError):
            fuzzed.problems.append(f"{event.label}: {event.value!r}")
        elif isinstance(event, events.FatalError):
            raise event.exception
    return fuzzed


def _count(recorder: Any, fuzzed: Fuzzed) -> None:
    for id, interaction in recorder.interactions.items():
        if interaction.response is not None:
            label = recorder.cases[id].value.operation.label
            fuzzed.statuses[label, interaction.response.status_code] += 1
    for checks in recorder.checks.values():
        for check in checks:
            if check.failure_info is not None:
                failure = check.failure_info.failure
                fuzzed.problems.append(f"{check.name}: {failure!r}\n{check.failure_info.code_sample}")


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    """Lower how many tokens are asked for, if that is a valid number."""
    if isinstance(case.body, dict):
        for key in ("max_tokens", "max_completion_tokens"):
            if type(case.body.get(key)) is int and MOST_TOKENS < case.body[key] <= 4096:
                case.body[key] = MOST_TOKENS
