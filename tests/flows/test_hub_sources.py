"""Base and data read from the hub by its real clients, by name and by revision, then without a connection."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import load_file

from tests.faults.warm import Ended, Warm
from tests.hub_files import Files, HubFiles, files_of, hub_files_server
from tests.tiny import make_folder

REPOSITORY = Path(__file__).parents[2]
BASE, DATA = "models/acme/tiny", "datasets/acme/pairs"
ROWS = [{"instruction": f"say {number}", "response": f"it is {number}"} for number in range(24)]


class Hub(NamedTuple):
    """A hub with two commits of a base and of a dataset, and a cache that begins empty.

    Args:
        online, offline: processes whose children see this hub and its cache alone, or the cache alone.
    """

    server: HubFiles
    folder: Path
    online: Warm
    offline: Warm
    old_base: str
    old_data: str


def parquet_files(folder: Path, rows: list[dict[str, str]]) -> Files:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    for number in range(2):
        path = folder / "data" / f"train-0000{number}-of-00002.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        parquet.write_table(arrow.Table.from_pylist(rows[number::2]), path)
    return files_of(folder)


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    pytest.importorskip("datasets")
    folder = tmp_path_factory.mktemp("hub")
    with hub_files_server() as server:
        bases = [files_of(make_folder(folder / f"base{seed}", "mt5", seed=seed)) for seed in (0, 1)]
        old_base = server.commit(
            BASE, {**bases[0], "onnx/model.onnx": b"another", "tf_model.h5": b"form", "modeling.py": b"1/0"}
        )
        server.commit(BASE, bases[1])
        old_data = server.commit(DATA, parquet_files(folder / "old", ROWS))
        server.commit(DATA, parquet_files(folder / "new", ROWS[:8]))
        with pytest.MonkeyPatch.context() as patch:  # huggingface_hub reads them when it is imported
            for name in os.environ:
                if name.startswith(("HF_", "HUGGING")):
                    patch.delenv(name)
            for name, value in variables(server, folder).items():
                patch.setenv(name, value)
            online = Warm(tmp_path_factory.mktemp("online"))
            patch.setenv("HF_HUB_OFFLINE", "1")
            offline = Warm(tmp_path_factory.mktemp("offline"))
        yield Hub(server, folder, online, offline, old_base, old_data)
        online.close()
        offline.close()


def variables(server: HubFiles, folder: Path) -> dict[str, str]:
    return {
        "HF_HOME": str(folder / "cache"),
        "PYTHONPATH": str(REPOSITORY),
        "HF_HUB_DISABLE_XET": "1",
        "HF_ENDPOINT": server.endpoint,
    }


def loraloom(hub: Hub, *words: str) -> Ended:
    """Run a command that sees this hub and its own cache alone."""
    return hub.online.call(*words, cwd=hub.folder)


def on_one_line(text: str) -> str:
    return " ".join(text.split())


def recipe(hub: Hub, name: str, base: str, data: str, **settings: Any) -> str:
    values = {
        "model_name_or_path": base,
        "data": {"train": data, **settings},
        "lora": {"r": 2},
        "training": {"max_steps": 2, "per_device_train_batch_size": 4, "eval_strategy": "no"},
    }
    (hub.folder / f"{name}.yaml").write_text(json.dumps(values), encoding="utf-8")
    return f"{name}.yaml"


def document(hub: Hub, run: str, name: str) -> dict[str, Any]:
    return dict(json.loads((hub.folder / run / name).read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def pinned(hub: Hub) -> str:
    """A run on the older base and the older rows, which are kept in files."""
    names = f"acme/tiny@{hub.old_base}", f"hub:acme/pairs@{hub.old_data}"
    trained = loraloom(hub, "train", recipe(hub, "pinned", *names, keep_rows="disk"), "--out", "runs/pinned")
    assert trained.code == 0, trained.stderr
    return "runs/pinned"


def test_a_revision_gives_the_files_of_its_commit(hub: Hub, pinned: str) -> None:
    base = document(hub, pinned, "provenance.json")["base"]
    assert base["name"] == f"acme/tiny@{hub.old_base}"
    assert base["commit"] == hub.old_base
    snapshot = hub.folder / f"cache/hub/models--acme--tiny/snapshots/{hub.old_base}"
    theirs, ours = (load_file(folder / "model.safetensors") for folder in (snapshot, hub.folder / "base0"))
    assert all(theirs[name].equal(ours[name]) for name in ours)
    # Code is left on the hub, and so is what other frameworks would read.
    assert not (snapshot / "modeling.py").exists()
    assert not (snapshot / "tf_model.h5").exists()
    assert not (snapshot / "onnx").exists()


def test_rows_of_the_hub_train_as_those_of_a_file(hub: Hub, pinned: str) -> None:
    lines = [json.dumps(row) for number in range(2) for row in ROWS[number::2]]
    (hub.folder / "rows.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    trained = loraloom(hub, "train", recipe(hub, "local", "base0", "rows.jsonl"), "--out", "runs/local")
    assert trained.code == 0, trained.stderr
    weights = [
        load_file(hub.folder / run / "adapters/main/adapter_model.safetensors")
        for run in (pinned, "runs/local")
    ]
    assert weights[0].keys() == weights[1].keys()
    assert all(weights[0][name].equal(weights[1][name]) for name in weights[0])


def test_the_adapter_names_repository_and_revision_as_peft_does(hub: Hub, pinned: str) -> None:
    config = document(hub, pinned, "adapters/main/adapter_config.json")
    assert (config["base_model_name_or_path"], config["revision"]) == ("acme/tiny", hub.old_base)
    card = (hub.folder / pinned / "adapters/main/README.md").read_text(encoding="utf-8")
    assert "base_model: acme/tiny\n" in card
    assert f'from_pretrained(base, revision="{hub.old_base}"' in card


def test_a_pinned_run_is_compared_and_merged_without_a_connection(hub: Hub, pinned: str) -> None:
    compared = hub.offline.call("compare", pinned, "--split", "eval", cwd=hub.folder)
    assert compared.code == 0, compared.stderr
    merged = hub.offline.call("merge", pinned, "merged", cwd=hub.folder, faults={"fresh": True})
    assert merged.code == 0, merged.stderr
    file = "tokenizer.json"
    assert (hub.folder / "merged" / file).read_bytes() == (hub.folder / "base0" / file).read_bytes()


def test_a_base_that_has_changed_on_the_hub_is_found_and_can_be_had_again(hub: Hub) -> None:
    now = hub.server.commits[BASE]
    name = recipe(hub, "moving", "acme/tiny", f"hub:acme/pairs@{hub.old_data}")
    hub.server.commits[BASE] = {hub.old_base: now[hub.old_base]}
    try:
        trained = loraloom(hub, "train", name, "--out", "runs/moving")
    finally:
        hub.server.commits[BASE] = now
    assert trained.code == 0, trained.stderr
    assert document(hub, "runs/moving", "provenance.json")["base"]["commit"] == hub.old_base
    refused = loraloom(hub, "compare", "runs/moving", "--split", "eval")
    assert refused.code == 1
    words = f"--base acme/tiny@{hub.old_base}"
    assert words in on_one_line(refused.stderr)
    compared = loraloom(hub, "compare", "runs/moving", "--split", "eval", *words.split())
    assert compared.code == 0, compared.stderr


@pytest.mark.parametrize(
    ("base", "data", "said"),
    [
        ("acme/tiny@v9", "hub:acme/pairs", "acme/tiny@v9: the hub has no revision `v9` of this model"),
        ("acme/none@main", "hub:acme/pairs", "acme/none@main: the hub has no such model"),
        ("base0", "hub:acme/pairs@v9", "hub:acme/pairs@v9: the hub has no such dataset"),
    ],
)
def test_what_the_hub_does_not_have_is_named(hub: Hub, base: str, data: str, said: str) -> None:
    refused = loraloom(hub, "train", recipe(hub, "wrong", base, data))
    assert refused.code == 1
    assert said in on_one_line(refused.stderr)
    assert "Traceback" not in refused.stderr


def test_pickles_are_downloaded_only_if_they_are_allowed(hub: Hub) -> None:
    """google/mt5-small has no other weights, but for a pull request."""
    pickled = dict(files_of(hub.folder / "base0"))
    weights = io.BytesIO()
    torch.save(load_file(hub.folder / "base0" / "model.safetensors"), weights)
    del pickled["model.safetensors"]
    sha = hub.server.commit("models/acme/old", {**pickled, "pytorch_model.bin": weights.getvalue()})
    name = recipe(hub, "pickled", f"acme/old@{sha}", "hub:acme/pairs")
    refused = loraloom(hub, "train", name, "--out", "runs/pickled")
    assert refused.code == 1
    assert "has only .bin weights, which are pickles" in on_one_line(refused.stderr)
    assert not list((hub.folder / "cache").rglob("pytorch_model.bin"))
    trained = loraloom(hub, "train", name, "--out", "runs/pickled", "--set", "allow_bin_weights=true")
    assert trained.code == 0, trained.stderr


def test_the_card_that_is_pushed_names_the_repository(hub: Hub, pinned: str) -> None:
    pushed = loraloom(hub, "push", pinned, "me/mine", "--json")
    assert pushed.code == 0, pushed.stderr
    assert "base_model: acme/tiny\n" in json.loads(pushed.stdout)["card"]


def test_an_adapter_without_its_run_takes_a_pinned_base(hub: Hub, pinned: str) -> None:
    (hub.folder / "questions.txt").write_text("say 3\n", encoding="utf-8")
    words = ("--base", f"acme/tiny@{hub.old_base}", "--adapter", f"{pinned}/adapters/main")
    predicted = hub.offline.call("predict", *words, "questions.txt", cwd=hub.folder)
    assert predicted.code == 0, predicted.stderr


def test_without_connection_and_cache_it_says_so(hub: Hub, tmp_path: Path) -> None:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HUGGING"))}
    (tmp_path / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in ROWS), encoding="utf-8")
    away = recipe(hub._replace(folder=tmp_path), "away", "acme/tiny@main", "rows.jsonl")
    refused = subprocess.run(
        [sys.executable, "-m", "loraloom", "train", away],
        env=kept | variables(hub.server, tmp_path) | {"HF_HUB_OFFLINE": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert refused.returncode == 1
    said = "acme/tiny@main: the hub cannot be reached, and this revision is not in the local cache"
    assert said in on_one_line(refused.stderr)
