"""Text of rows stays where it belongs: in comparisons, reports and answers, and nowhere else."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.warm import Ended, Warm
from tests.flows.conftest import QUESTIONS, Project, make_project, write_json
from tests.security.conftest import SHORT, Watched
from tests.tiny import SHALLOW

# In every source, in every response, and in every prompt.
ASKED, ANSWERED, PROMPTED = "ASKED4b1c", "ANSWERED9e2f", "PROMPTED7d3a"
CANARIES = (ASKED, ANSWERED, PROMPTED)
# Who asks for answers gets them: on stdout, in compare/ and in the report.
MAY_SHOW = {"compare", "predict", "report"}
SPACE = "lr: [1.0e-3, 1.0e-2]\n"


def fill(project: Project) -> None:
    """The project's rows, of several kinds, with canaries in every one."""
    rows = [
        {
            "instruction": f"{ASKED} {n} {QUESTIONS[n % len(QUESTIONS)]}？",
            "response": f"{ANSWERED} {n} 先试着把心情调节一下。",
        }
        for n in range(24)
    ]
    rows += [rows[3], {"instruction": f"{ASKED} mail", "response": f"{ANSWERED} a.b@example.org 13800138000"}]
    rows += [{"instruction": f"{ASKED} long", "response": f"{ANSWERED} {'很长 ' * 200}"}]
    folder = project.folder
    write_json(folder / "data.json", rows)
    write_json(
        folder / "retain.json", [{"instruction": f"{ASKED} r{n}", "response": ANSWERED} for n in range(4)]
    )
    (folder / "prompts.txt").write_text(f"{PROMPTED} 1\n{PROMPTED} 2\n", encoding="utf-8")
    (folder / "space.yaml").write_text(SPACE, encoding="utf-8")
    text = (folder / "recipe.yaml").read_text(encoding="utf-8")
    one = text[: text.index("experiments:")] + text[text.index("generation:") :]
    (folder / "one.yaml").write_text(one.replace("train: data.json", "train: data.json, retain: retain.json"))


COMMANDS: tuple[tuple[str, ...], ...] = (
    ("init", "data.json"),
    ("check", "recipe.yaml", "--json"),
    ("train", "recipe.yaml", "--out", "run", *SHORT, "--set", "training.metric_for_best_model=chrf"),
    ("train", "--resume", "run"),
    (
        "search",
        "one.yaml",
        "--space",
        "space.yaml",
        "--trials",
        "2",
        "--sampler",
        "grid",
        "--out",
        "searched",
        *SHORT,
    ),
    ("compare", "run"),
    ("compare", "run", "--prompts", "prompts.txt", "--json"),
    ("predict", "run", "prompts.txt", "--experiment", "wide"),
    ("report", "run"),
    ("card", "run", "--experiment", "wide", "--out", "card.md"),
    ("merge", "run", "merged", "--experiment", "wide"),
    ("runs", "."),
)


@pytest.fixture(scope="module")
def life(
    online: Warm, tiny: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Project, dict[str, Ended]]:
    """A life with all verbs, and what they said."""
    project = make_project(online, tmp_path_factory.mktemp("life"), tiny(SHALLOW))
    fill(project)
    ended = {}
    for argv in COMMANDS:
        ended[" ".join(argv[:2])] = now = project.call(*argv, faults={"fresh": True})
        assert now.code == 0, (argv, now.stderr)
    return project, ended


def holders(folder: Path, names: tuple[str, ...] = CANARIES) -> set[str]:
    """The files of a folder that hold one of these texts, in UTF-8, UTF-16 or as JSON escapes."""
    spelled = [form for name in names for form in (name.encode(), name.encode("utf-16-le"))]
    return {
        str(file.relative_to(folder))
        for file in folder.rglob("*")
        if file.is_file() and any(form in file.read_bytes() for form in spelled)
    }


INPUTS = {"data.json", "retain.json", "prompts.txt"}


def test_row_text_is_in_no_stream_and_no_file_but_where_it_is_asked_for(
    life: tuple[Project, dict[str, Ended]],
) -> None:
    project, said = life
    for argv, ended in said.items():
        assert not any(canary in ended.stderr for canary in CANARIES), argv
        if argv.split()[0] not in MAY_SHOW:
            assert not any(canary in ended.stdout for canary in CANARIES), argv
    found = holders(project.folder) - INPUTS
    assert {file for file in found if not file.startswith(("run/compare/", "run/report."))} == set()
    assert "run/compare/test.json" in found  # else this test would look in vain


def test_an_interrupted_life_leaves_no_text_behind(watched: Watched) -> None:
    """A comparison that is cut keeps its answers in the run's own compare folder."""
    fill(watched.project)
    assert watched.project.call("train", "recipe.yaml", "--out", "run", *SHORT).code == 0
    faults = {"call": "loraloom.comparison.answering:_joined", "number": 1}
    killed = watched.project.call("compare", "run", faults=faults)
    assert killed.code != 0
    found = holders(watched.project.folder) - INPUTS
    assert all(file.startswith("run/compare/") for file in found), found


def test_nothing_of_a_row_is_kept_in_the_user_s_caches(
    life: tuple[Project, dict[str, Ended]], online_home: Path
) -> None:
    """Home and temporary folder, after a life with all verbs."""
    assert holders(online_home) == set()


BAD_ROWS = {
    "an empty response": {"instruction": f"{ASKED}", "response": ""},
    "a number": {"instruction": f"{ASKED}", "response": 7},
    "a missing field": {"instruction": f"{ASKED}"},
    "a list": {"instruction": [ASKED], "response": ANSWERED},
    "a control character": {"instruction": f"{ASKED}\x07", "response": ANSWERED},
    "a mapping": {"instruction": {ASKED: ANSWERED}, "response": ANSWERED},
    "half a character": {"instruction": f"{ASKED}\ud800", "response": ANSWERED},
}


@pytest.mark.parametrize("case", BAD_ROWS)
@pytest.mark.parametrize("verb", ["init", "check", "train", "compare", "predict", "search"])
def test_a_message_about_a_bad_row_has_none_of_its_text(
    verb: str, case: str, watched: Watched, ready: Path
) -> None:
    rows = [{"instruction": f"{ASKED} {n}", "response": f"{ANSWERED} {n}"} for n in range(20)]
    rows.insert(10, BAD_ROWS[case])
    file = watched.project.folder / "bad.json"
    file.write_text("[\n" + ",\n".join(map(json.dumps, rows)) + "\n]", encoding="utf-8")
    (watched.project.folder / "space.yaml").write_text(SPACE, encoding="utf-8")
    train = ("--set", "data.train=bad.json")
    ended = watched.project.call(
        *{
            "init": ("init", "bad.json"),
            "check": ("check", "recipe.yaml", *train),
            "train": ("train", "recipe.yaml", *train),
            "compare": ("compare", ready, "--prompts", "bad.json"),
            "predict": ("predict", ready, "bad.json", "--experiment", "wide"),
            "search": (
                *("search", "recipe.yaml", "--space", "space.yaml", "--trials", "2"),
                *("--set", "experiments=", *train),
            ),
        }[verb]
    )
    # Of a row without a usable answer compare and predict may give the answers: that is no message.
    said = ended.stderr if verb in MAY_SHOW and ended.code == 0 else ended.stdout + ended.stderr
    assert not any(canary in said for canary in CANARIES)
    assert "Traceback" not in ended.stderr
