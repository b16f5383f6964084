"""The list of runs and the page of one run, over stored runs of every kind."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from loraloom.run.documents.provenance import Provenance
from loraloom.run.folder import LOCK_FILE, Run
from loraloom.session.search_request import request_of_run
from loraloom.web.pages import jobs, run_pages, split_rows
from loraloom.web.pages.event_stream import event
from loraloom.web.pages.live_log import LiveLog
from loraloom.web.pages.live_view import live_view
from loraloom.web.pages.run_process import RunProcess
from loraloom.web.pages.run_summaries import RunSummary
from tests.report.runs import hostile_rows, make_run
from tests.web.pages.conftest import copy_run

ROOMS = ("", "/experiments", "/data", "/compare")
STORED = ("finished", "finished-interrupted", "search", "range_test", "talks-interrupted", "tsv")


def test_without_runs_the_list_says_how_to_start(client: TestClient) -> None:
    page = client.get("/runs").text
    assert "There are no runs yet" in page
    assert 'href="/new"' in page


def test_every_page_of_every_kind_of_run_is_there(client: TestClient, runs: Path) -> None:
    for name in STORED:
        copy_run(name, runs)
    listed = client.get("/runs").text
    for name in STORED:
        assert f'href="/runs/{name}"' in listed
        for room in ROOMS:
            assert client.get(f"/runs/{name}{room}").status_code == 200, f"{name}{room}"
    assert "state-stopped" in listed
    assert "too few to recommend" in listed


@pytest.mark.parametrize(
    "file", ["recipe.yaml", "provenance.json", "result.json", "split.json", "events.jsonl"]
)
@pytest.mark.parametrize("content", [b"", b"{", b"[1, 2]", b"\xff\xfe\x00"])
def test_a_damaged_run_is_shown_as_such(client: TestClient, runs: Path, file: str, content: bytes) -> None:
    copy_run("finished", runs)
    (runs / "finished" / file).write_bytes(content)
    for path in ("/runs", *(f"/runs/finished{room}" for room in ROOMS)):
        assert client.get(path).status_code == 200, path
    is_summarised = file in ("provenance.json", "result.json")
    assert ("state-damaged" in client.get("/runs").text) == is_summarised


def test_a_damaged_comparison_is_no_error_of_the_server(client: TestClient, runs: Path) -> None:
    folder = copy_run("finished", runs)
    next((folder / "compare").glob("*.json")).write_text("{", encoding="utf-8")
    (folder / "votes.json").write_text("{}", encoding="utf-8")
    for path in ("/runs", *(f"/runs/finished{room}" for room in ROOMS)):
        assert client.get(path).status_code == 200, path
    assert "state-damaged" in client.get("/runs").text


def test_text_of_data_and_models_is_only_text(client: TestClient, runs: Path) -> None:
    make_run(runs / "hostile", hostile_rows(), compare=("test", "prompts"))
    for room in ROOMS:
        page = client.get(f"/runs/hostile{room}").text
        for raw in ("<script>alert", "<img src=x", "<svg onload", "\u202e", "</style><style>*"):
            assert raw not in page, room


@pytest.mark.parametrize("name", ["..", "%2e%2e", "nope", "finished%2f..", "finished%00"])
def test_a_name_is_looked_up_and_never_joined_to_a_path(client: TestClient, runs: Path, name: str) -> None:
    copy_run("finished", runs)
    (runs.parent / "secret.txt").write_text("secret", encoding="utf-8")
    for room in ROOMS:
        assert client.get(f"/runs/{name}{room}", follow_redirects=False).status_code in (307, 404)


def test_many_runs_are_on_several_pages(client: TestClient, runs: Path) -> None:
    for number in range(60):
        make_run(runs / f"run-{number:02}", compare=(), has_begun=False, is_finished=False)
    first, last = client.get("/runs").text, client.get("/runs?number=99").text
    assert first.count('class="run"') == 50
    assert last.count('class="run"') == 10
    assert "Page 1 of 2" in first


def test_a_log_is_read_as_it_grows_and_from_the_start_if_it_was_replaced(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    log = LiveLog(path)
    assert log.read() == []
    path.write_text(_step(1) + _step(2)[:30], encoding="utf-8")
    assert [event.step for event in log.read()] == [1]  # type: ignore[attr-defined]
    with path.open("a", encoding="utf-8") as file:
        file.write(_step(2)[30:] + _step(2, loss=0.5))
    assert [(event.step, event.loss) for event in log.read()] == [(1, 2.0), (2, 0.5)]  # type: ignore[attr-defined]
    path.write_text(_step(7), encoding="utf-8")
    assert [event.step for event in log.read()] == [7]  # type: ignore[attr-defined]


def test_the_time_left_is_that_of_the_steps_left(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text("".join(_step(step) for step in range(1, 11)), encoding="utf-8")
    events = LiveLog(path).read()
    view = live_view(events, ["wide"], [["wide"]])
    assert view.seconds_left == pytest.approx(30 * 2.0)  # 40 steps of 100 tokens at 50 tokens/s
    assert view.tokens_per_second == pytest.approx(50)
    waiting = live_view(events, ["wide", "later"], [["wide"], ["later"]])
    assert waiting.seconds_left == pytest.approx((30 + 40) * 2.0)
    assert [each.name for each in waiting.experiments] == ["wide", "later"]


def test_the_stream_of_a_run_that_ended_ends(client: TestClient, runs: Path) -> None:
    copy_run("finished", runs)
    answer = client.get("/runs/finished/live")
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.text.startswith("event: live\ndata: ")
    assert answer.text.endswith(event("ended", ""))


def test_the_stream_of_a_run_that_ends_while_it_is_rendered_shows_its_end(
    client: TestClient, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy_run("finished", runs)
    states = ["working", "done"]

    class Summaries:
        def summary(self, run: Run) -> RunSummary:
            """The process ends right after this was read."""
            return RunSummary(run.folder.name, states.pop(0))

    def process(run: Run) -> RunProcess | None:
        return RunProcess(1, 0) if "working" in states else None

    monkeypatch.setattr(run_pages, "runs_of", lambda request: Summaries())
    monkeypatch.setattr(run_pages, "process_of", process)
    monkeypatch.setattr(run_pages, "POLL_SECONDS", 0.0)
    text = client.get("/runs/finished/live").text
    assert text.count("event: live") == 2
    assert text.endswith("event: ended\ndata: \n\n")


def test_stopping_sends_sigterm_to_the_process_that_holds_the_lock(
    client: TestClient, runs: Path, form_token: Callable[[], str]
) -> None:
    copy_run("finished-interrupted", runs)
    form = {"form_token": form_token()}
    assert client.post("/runs/finished-interrupted/stop", data=form).status_code == 409
    lock = runs / "finished-interrupted" / LOCK_FILE
    code = (
        "import sys, time; from pathlib import Path; from loraloom.run.lock import locked\n"
        "with locked(Path(sys.argv[1])):\n    print('locked', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(lock)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        page = client.get("/runs/finished-interrupted").text
        assert 'id="stop"' in page
        assert 'sse-connect="/runs/finished-interrupted/live"' in page
        assert client.post("/runs/finished-interrupted/resume", data=form).status_code == 409
        answer = client.post("/runs/finished-interrupted/stop", data=form, follow_redirects=False)
        assert answer.status_code == 303
        assert process.wait(10) == -15
    assert 'id="resume"' in client.get("/runs/finished-interrupted").text


def test_a_second_stop_sends_no_second_signal(
    client: TestClient, runs: Path, form_token: Callable[[], str]
) -> None:
    """A second signal would end a training before it has saved."""
    copy_run("finished-interrupted", runs)
    form = {"form_token": form_token()}
    code = (
        "import signal, sys; from pathlib import Path; from loraloom.run.lock import locked\n"
        "signal.signal(signal.SIGTERM, lambda *_: print('signal', flush=True))\n"
        "with locked(Path(sys.argv[1])):\n    print('locked', flush=True); sys.stdin.read()"
    )
    lock = runs / "finished-interrupted" / LOCK_FILE
    with subprocess.Popen(
        [sys.executable, "-c", code, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        for _ in range(2):
            answer = client.post("/runs/finished-interrupted/stop", data=form, follow_redirects=False)
            assert answer.status_code == 303
        assert process.communicate(timeout=10)[0] == "signal\n"


def test_a_process_that_only_its_number_names_is_not_stopped(
    client: TestClient, runs: Path, form_token: Callable[[], str]
) -> None:
    """A process that a lock file names, but that does not have it open, is not stopped."""
    run = Run(copy_run("finished-interrupted", runs))
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        from loraloom.run.lock import locked

        with locked(run.folder / LOCK_FILE):
            (run.folder / LOCK_FILE).write_text(str(process.pid), encoding="ascii")
            answer = client.post("/runs/finished-interrupted/stop", data={"form_token": form_token()})
        assert answer.status_code == 409
        assert process.poll() is None
        process.kill()


def _step(step: int, loss: float = 2.0) -> str:
    line = {
        "event": "train",
        "time": "2026-11-27T14:34:25+00:00",
        "step": step,
        "experiment": "wide",
        "experiment_step": step,
        "total_steps": 40,
        "epoch": 0.1,
        "loss": loss,
        "learning_rate": 1e-4,
        "grad_norm": 1.0,
        "num_tokens": 100,
        "tokens_per_second": 50.0,
    }
    return json.dumps(line) + "\n"


def test_a_second_click_finds_the_process_of_the_first(
    client: TestClient, runs: Path, form_token: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    processes: list[subprocess.Popen[bytes]] = []

    def sleeping(own: Path) -> subprocess.Popen[bytes]:
        processes.append(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]))
        return processes[-1]

    monkeypatch.setattr(jobs, "_start", sleeping)
    copy_run("finished-interrupted", runs)
    form = {"form_token": form_token()}
    for _ in range(2):
        answer = client.post("/runs/finished-interrupted/resume", data=form, follow_redirects=False)
        assert answer.status_code == 303
    assert len(processes) == 1
    assert client.post("/runs/finished-interrupted/compare-rows", data=form).status_code == 409
    for process in processes:
        process.kill()
        process.wait()


def test_a_search_that_was_interrupted_can_be_resumed_here(client: TestClient, runs: Path) -> None:
    folder = copy_run("search", runs)
    assert 'id="resume"' not in client.get("/runs/search").text
    (folder / "result.json").unlink()
    assert 'id="resume"' in client.get("/runs/search").text
    request = request_of_run(Run(folder))
    assert request.as_document() == Provenance.read(folder / "provenance.json").search
    assert not request.recipe.experiments
    (folder / "space.yaml").unlink()
    assert request_of_run(Run(folder)).as_document() == request.as_document()


def test_a_run_that_takes_long_to_read_delays_no_page_of_another(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    large, small = Run(copy_run("finished", runs)), Run(copy_run("talks-interrupted", runs))
    is_reading, may_go_on = threading.Event(), threading.Event()
    read = split_rows.read_split_data
    num_reads: list[Path] = []

    def slow(run: Run) -> split_rows.SplitData:
        num_reads.append(run.folder)
        if run is large:
            is_reading.set()
            assert may_go_on.wait(60)
        return read(run)

    monkeypatch.setattr(split_rows, "read_split_data", slow)
    cache = split_rows.SplitCache()
    with ThreadPoolExecutor(3) as pool:
        waiting = [pool.submit(cache.of, large) for _ in range(2)]
        assert is_reading.wait(60)
        assert cache.of(small).split.train
        may_go_on.set()
        assert waiting[0].result() is waiting[1].result()
    assert num_reads.count(large.folder) == 1, "pages of one run read it once"
