"""A new run: uploads, what is found in them, the recipe as it is typed, and processes that are started."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from loraloom.web.pages import jobs
from loraloom.web.pages.application import make_access, make_application
from loraloom.web.pages.drafts import Drafts
from loraloom.web.pages.jobs import Jobs
from tests.web.pages.conftest import copy_run

ROWS = [{"question": f"How {n}?", "answer": f"Like this {n}."} for n in range(30)]
Upload = Callable[..., str]


@pytest.fixture
def upload(client: TestClient, form_token: Callable[[], str]) -> Upload:
    def send(content: bytes | str, name: str = "rows.json") -> str:
        data = content.encode() if isinstance(content, str) else content
        answer = client.post(
            "/new/upload",
            data={"form_token": form_token(), "model": "starter"},
            files={"data": (name, data)},
            follow_redirects=False,
        )
        assert answer.status_code == 303
        return answer.headers["location"]

    return send


def test_a_data_file_gets_rows_lengths_and_a_recipe(client: TestClient, runs: Path, upload: Upload) -> None:
    page = client.get(upload(json.dumps(ROWS))).text
    assert "<dd>30</dd>" in page
    assert "train: rows.json" in page
    assert "The recipe is valid." in page
    assert 'hx-trigger="load, input changed delay:300ms"' in page  # what was typed before it, too
    assert page.count("plot small") == 2
    (kept,) = Drafts(runs).all()
    assert kept.files == ["rows.json"]
    assert kept.folder.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.csv", "question,answer\nHow?,So.\nWhy?,Because.\n"),
        ("rows.jsonl", '{"instruction": "a", "output": "b"}\n{"instruction": "c", "output": "d"}\n'),
        (
            "talk.json",
            json.dumps(
                [{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}]
            ),
        ),
    ],
)
def test_every_layout_of_the_command_line_is_known(
    client: TestClient, upload: Upload, name: str, content: str
) -> None:
    assert f"train: {name}" in client.get(upload(content, name)).text


def test_problems_of_data_have_their_lines(client: TestClient, upload: Upload) -> None:
    page = client.get(upload('{"question": "a", "answer": "b"}\n{"question": \n', "rows.jsonl")).text
    assert "rows.jsonl:2" in page
    assert 'id="recipe"' not in page


def test_columns_can_be_assigned(client: TestClient, upload: Upload, form_token: Callable[[], str]) -> None:
    address = upload("x1,x2\nHow?,So.\nWhy?,Because.\n", "rows.csv")
    assert 'id="recipe"' not in client.get(address).text
    form = {"form_token": form_token(), "instruction": "x1", "response": "x2"}
    page = client.post(f"{address}/columns", data=form).text
    assert "instruction: x1" in page


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("../../etc/passwd.json", "passwd.json"),
        ("C:\\data\\rows.json", "rows.json"),
        (".hidden.json", "hidden.json"),
        ("recipe.yaml", "data-recipe.yaml"),
        ("数据 1.json", "数据-1.json"),
        ("$(rm -rf).json", "rm--rf-.json"),
        ("a" * 300 + ".json", "a" * 95 + ".json"),
    ],
)
def test_a_file_is_kept_under_a_plain_name(runs: Path, upload: Upload, given: str, kept: str) -> None:
    upload(json.dumps(ROWS), given)
    (draft,) = Drafts(runs).all()
    assert draft.files == [kept]


def test_an_upload_is_bounded(runs: Path) -> None:
    access = make_access("127.0.0.1", None, max_upload_bytes=1000)
    with TestClient(make_application(runs, access), base_url="http://127.0.0.1:8700") as client:
        answer = client.post("/new/upload", files={"data": ("rows.json", b"x" * 2000)})
        assert answer.status_code == 413
    assert not Drafts(runs).all()


def test_an_empty_upload_is_refused(client: TestClient, form_token: Callable[[], str]) -> None:
    answer = client.post(
        "/new/upload", data={"form_token": form_token(), "model": ""}, files={"data": ("rows.json", b"")}
    )
    assert answer.status_code == 422
    assert "not empty" in answer.text


def test_the_recipe_is_validated_as_it_is_typed(
    client: TestClient, upload: Upload, form_token: Callable[[], str]
) -> None:
    address = upload(json.dumps(ROWS))
    text = "model_name_or_path: starter\ndata:\n  train: rows.json\nlora:\n  rnk: 4\n"
    said = client.post(f"{address}/validate", data={"form_token": form_token(), "recipe": text}).text
    assert "Line 5" in said
    assert "lora.r" in said
    assert said.count('<li class="error"') == 2  # beside the line, and below
    fixed = text.replace("rnk", "r")
    said = client.post(f"{address}/validate", data={"form_token": form_token(), "recipe": fixed}).text
    assert "The recipe is valid." in said


def test_an_invalid_recipe_starts_nothing(
    client: TestClient, runs: Path, upload: Upload, form_token: Callable[[], str]
) -> None:
    address = upload(json.dumps(ROWS))
    form = {"form_token": form_token(), "recipe": "lora: {rnk: 4}"}
    answer = client.post(f"{address}/start", data=form)
    assert answer.status_code == 422
    form = {
        "form_token": form_token(),
        "recipe": client.get(address).text and "model_name_or_path: starter",
        "allow": "nonsense",
    }
    assert "nonsense" in client.post(f"{address}/check", data=form).text
    assert not Jobs(runs).folder.exists()


def test_a_process_reports_why_it_could_not_start(runs: Path) -> None:
    jobs = Jobs(runs)
    recipe = runs / "recipe.yaml"
    recipe.write_text("model_name_or_path: starter\ndata: {train: nowhere.json}\n", encoding="utf-8")
    job = jobs.start("train", run="mine", recipe=str(recipe), out=str(runs / "mine"))
    jobs._processes[job.id].wait(60)
    found = jobs.find(job.id)
    assert found is not None
    assert found.status == "failed"
    assert "nowhere.json" in found.problems[0]
    assert [each.id for each in jobs.failed_starts()] == [job.id]
    assert Jobs(runs).find(job.id) == found  # another server knows it too
    jobs.discard(job.id)
    assert jobs.find(job.id) is None


@pytest.mark.parametrize("name", ["心理-2026-11-28-1", "50% #1?"])
def test_a_training_leads_to_its_run_whatever_its_name(client: TestClient, runs: Path, name: str) -> None:
    copy_run("finished", runs).rename(runs / name)
    folder = Jobs(runs).folder / "abc"
    folder.mkdir(parents=True)
    request = json.dumps({"kind": "train", "name": name})
    (folder / "request.json").write_text(request, encoding="utf-8")
    (folder / "pid").write_text(str(os.getpid()), encoding="ascii")
    headers = client.get("/jobs/abc/progress").headers
    followed = client.get("/jobs/abc")
    assert followed.status_code == 200
    assert followed.url.path == f"/runs/{name}"
    assert client.get(headers["HX-Redirect"]).url.path == f"/runs/{name}"


def test_a_process_that_was_killed_has_failed(runs: Path) -> None:
    folder = Jobs(runs).folder / "abc"
    folder.mkdir(parents=True)
    (folder / "request.json").write_text('{"kind": "check", "name": ""}', encoding="utf-8")
    (folder / "pid").write_text("999999999", encoding="ascii")
    found = Jobs(runs).find("abc")
    assert found is not None
    assert found.status == "failed"


def test_what_is_wrong_with_the_data_can_be_set_right_on_the_page(
    client: TestClient, form_token: Callable[[], str], upload: Upload
) -> None:
    place = upload(json.dumps([{"a": f"x {n}", "b": f"y {n}"} for n in range(30)]))
    page = client.get(place).text
    assert "Enter the columns of the question and of the answer below." in page
    assert "loraloom init" not in page
    rows = [{"instruction": f"a {n}", "output": None if n == 3 else f"b {n}"} for n in range(30)]
    place = upload(json.dumps(rows))
    assert "data.on_invalid: drop" in client.get(place).text
    form = {"form_token": form_token(), "settings": "data.on_invalid: drop\r\ndata.eval = 5\r\n"}
    page = client.post(f"{place}/columns", data=form).text
    assert "The recipe is valid." in page
    assert "on_invalid: drop" in page
    wrong = client.post(f"{place}/columns", data=form | {"settings": "data.on_invalid: dorp"}).text
    assert "data.on_invalid" in wrong
    assert "--set" not in wrong
    assert "data.on_invalid: dorp</textarea>" in wrong


def test_two_clicks_start_one_training_and_two_drafts_get_two_names(
    client: TestClient, form_token: Callable[[], str], upload: Upload, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    processes: list[subprocess.Popen[bytes]] = []

    def sleeping(own: Path) -> subprocess.Popen[bytes]:
        processes.append(subprocess.Popen(command))
        return processes[-1]

    monkeypatch.setattr(jobs, "_start", sleeping)
    first, second = (upload(json.dumps(ROWS)) for _ in range(2))
    recipe = "model_name_or_path: starter\ndata: {train: rows.json}\n"
    form = {"form_token": form_token(), "recipe": recipe}
    places = [
        client.post(f"{place}/start", data=form, follow_redirects=False).headers["location"]
        for place in (first, first, second)
    ]
    assert places[0] == places[1] != places[2]
    assert len(processes) == 2
    for process in processes:
        process.kill()
        process.wait()
