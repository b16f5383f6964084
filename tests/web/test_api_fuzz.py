"""Every answer to requests made from the OpenAPI document is one that the document allows."""

from __future__ import annotations

import os

from tests.web.api_fuzzing import fuzz
from tests.web.conftest import Served
from tests.web.live import LiveServer

CASES = int(os.environ.get("LORALOOM_FUZZ_API", "0"))  # set by `make fuzz-api`
SEQUENCES, LEAST = 15, 60  # in the suite; `make fuzz-api CASES=500` is a step of its own in CI
MOST_ROUNDS = 40
SUCCESSES = {"POST /v1/completions", "POST /v1/chat/completions", "POST /v1/adapters"}


def test_every_answer_is_one_that_the_document_allows(served: Served) -> None:
    server = LiveServer(served.run, *served.words)
    try:
        phases = (
            {"coverage": 0, "fuzzing": CASES // 16, "stateful": CASES // 8}
            if CASES
            else {"stateful": SEQUENCES}
        )
        fuzzed = fuzz(server, phases, seed=None if CASES else 0)
        # Schemathesis may end its sequences early, and which requests follow depends on answers before; what
        # is missing is asked for again, with other requests.
        for _ in range(MOST_ROUNDS):
            is_enough = fuzzed.statuses.total() >= (CASES or LEAST) and fuzzed.succeeded >= SUCCESSES
            if fuzzed.problems or is_enough:
                break
            more = fuzz(server, phases, seed=None)
            fuzzed.statuses += more.statuses
            fuzzed.problems += more.problems
        print(*sorted(fuzzed.statuses.items()), sep="\n")
        assert not fuzzed.problems, "\n\n".join(fuzzed.problems[:10])
        assert fuzzed.statuses.total() >= (CASES or LEAST)
        assert fuzzed.succeeded >= SUCCESSES
        assert server.figure("loraloom_model_restarts_total") == 0
    finally:
        server.stop()
