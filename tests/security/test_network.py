"""Nothing leaves the machine unasked: with sockets that refuse, every verb works, and none was tried."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from tests.faults.warm import REPOSITORY
from tests.flows.conftest import assert_refused
from tests.security.conftest import Watched
from tests.security.watch import NETWORK

# What Python runs in every process before anything else: a process that `merge` starts is watched too.
SITE = """\
import os, sys
from pathlib import Path
if "WATCH_LOG" in os.environ:
    from tests.security.watch import watch
    log = Path(os.environ["WATCH_LOG"])
    watch(log, log)
    log.with_suffix(".processes").touch()
"""
ONE = """\
model_name_or_path: {base}
data: {{train: data.json, eval: 4, test: 4, max_source_length: 48, max_target_length: 32}}
lora: {{r: 4, target_modules: [q, v]}}
training: {{learning_rate: 1.0e-2, max_steps: 2, per_device_train_batch_size: 4}}
generation: {{max_new_tokens: 4}}
"""


# The other verbs do not load the base, or load it as one of these does.
OF_THE_STARTER = ("init", "check", "train", "predict", "card", "merge")


def life(base: str) -> tuple[tuple[str, ...], ...]:
    """Every verb on a model folder; on the starter, each way to load it."""
    verbs = (
        ("init", "data.json", "--model", base),
        ("check", "one.yaml"),
        ("train", "one.yaml", "--out", "run"),
        ("train", "--resume", "run"),
        ("search", "one.yaml", "--space", "space.yaml", "--trials", "2", "--sampler", "grid"),
        ("compare", "run"),
        ("predict", "run", "data.json"),
        ("report", "run"),
        ("card", "run"),
        ("merge", "run", "merged"),
        ("runs", "runs"),
    )
    if base == "starter":
        return tuple(argv for argv in verbs if argv[0] in OF_THE_STARTER and "--resume" not in argv)
    return verbs


def tried(watched: Watched) -> list[str]:
    lines = watched.log.read_text().splitlines() if watched.log.exists() else []
    return [line for line in lines if line.split()[0] in NETWORK]


@pytest.mark.parametrize("base", ["starter", "model"])
def test_a_whole_life_touches_no_network(base: str, watched: Watched, tmp_path: Path) -> None:
    folder = watched.project.folder
    shutil.copytree(watched.project.model, folder / "model")
    (folder / "one.yaml").write_text(ONE.format(base=base), encoding="utf-8")
    (folder / "space.yaml").write_text("lr: [1.0e-3, 1.0e-2]\n", encoding="utf-8")
    (tmp_path / "sitecustomize.py").write_text(SITE, encoding="utf-8")
    env = {"PYTHONPATH": f"{tmp_path}{os.pathsep}{REPOSITORY}", "WATCH_LOG": str(watched.log)}
    # All that the process of a merge is given is what was merged, from whatever base; once is enough for it.
    faults = {"fresh": True} if base == "model" else {}
    for argv in life(base):
        ended = watched.call(*argv, faults=faults, **env)
        assert ended.code == 0, (argv, ended.stderr)
        assert tried(watched) == [], argv
    # A process that merge started was watched.
    assert watched.log.with_suffix(".processes").exists() == ("fresh" in faults)


def test_only_a_hub_name_asks_the_hub_and_says_so(watched: Watched, tmp_path: Path) -> None:
    """Named on purpose, and not in the cache: then it is asked, and what comes of it is one message."""
    naps = tmp_path / "naps"
    argv = ("check", "recipe.yaml", "--set", "model_name_or_path=owner/no-such-model")
    begun = time.monotonic()
    ended = watched.call(*argv, faults={"naps": str(naps)})
    seconds = time.monotonic() - begun
    assert_refused(ended, "ModelError: owner/no-such-model: ", "its config cannot be loaded", "`starter`")
    assert tried(watched)
    waited = [float(line) for line in naps.read_text().splitlines()]  # between two tries
    assert seconds + sum(waited) < 60


@pytest.mark.parametrize("name", ["./owner/model", "/nowhere/model", "~/nowhere", "a/b/c", "../model"])
def test_a_path_that_is_not_there_is_not_asked_for_at_the_hub(name: str, watched: Watched) -> None:
    ended = watched.call("check", "recipe.yaml", "--set", f"model_name_or_path={name}")
    assert_refused(ended, "there is no such folder")
    assert tried(watched) == []


@pytest.mark.parametrize("wrong", ["lora.r=0", "data.train=no-such.json"])
def test_what_is_wrong_with_recipe_or_data_is_said_before_anything_is_fetched(
    wrong: str, watched: Watched
) -> None:
    sets = ("--set", "model_name_or_path=owner/no-such-model", "--set", wrong)
    assert_refused(watched.call("train", "recipe.yaml", *sets), "Error: ")
    assert tried(watched) == []
