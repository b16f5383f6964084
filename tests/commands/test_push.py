"""What is sent to the hub and who sees it, and that nothing is sent unasked; with the hub's real client."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import huggingface_hub.hf_api
import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from safetensors.torch import load, load_file
from typer.testing import CliRunner

from loraloom.cli import app
from loraloom.commands.compare import compare
from loraloom.commands.export import export
from loraloom.commands.merge import merge
from loraloom.commands.push import push
from loraloom.errors import RecipeError, RunError
from tests.commands.exporting import prove_here
from tests.commands.trained import ROWS, TOKEN_IDS, machine_paths, train_small, train_token_rows
from tests.hub import TOKEN, Hub, Repository, hub_server

# PEFT still asks transformers for the old name of activation checkpointing.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The hub that the client talks to."""
    with hub_server() as server:
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", server.endpoint)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield server


@pytest.fixture(scope="module")
def compared(trained: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with a comparison."""
    run = Path(shutil.copytree(trained("mt5"), tmp_path_factory.mktemp("push") / "mine"))
    compare(run)
    return run


def metadata(card: bytes | str) -> dict[str, Any]:
    text = card.decode() if isinstance(card, bytes) else card
    return dict(yaml.safe_load(text.split("---\n")[1]))


def test_nothing_is_contacted_unless_asked(compared: Path, hub: Hub) -> None:
    shown = CliRunner().invoke(app, ["push", str(compared), "me/mine"])
    assert shown.exit_code == 0, shown.output
    assert hub.asked == []
    assert "would be sent" in shown.stdout
    assert "adapter_model.safetensors" in shown.stdout
    assert "model-index:" in shown.stdout
    assert "--send (only its owners can see it)" in shown.stderr
    assert "the base is a folder on this machine" in shown.stderr
    assert "--base-model OWNER/NAME --send" in shown.stderr  # without it, sending is refused


def test_an_adapter_arrives_with_its_results_in_a_private_repository(compared: Path, hub: Hub) -> None:
    sent = push(compared, "me/mine", base_model="google/mt5-small", sends=True)
    repository = hub.repositories["me/mine"]
    assert repository.is_private
    assert repository.commits == ["Upload main with LoRALoom"]
    assert sent["url"] == f"{hub.endpoint}/me/mine/commit/1"
    folder = compared / "adapters" / "main"
    weights = "adapter_model.safetensors"
    assert repository.files[weights] == (folder / weights).read_bytes()
    assert set(repository.files) == {file.name for file in folder.iterdir()} | {".gitattributes"}
    assert (
        json.loads(repository.files["adapter_config.json"])["base_model_name_or_path"] == "google/mt5-small"
    )
    card = repository.files["README.md"].decode()
    assert metadata(card)["base_model"] == "google/mt5-small"
    assert 'adapter = "me/mine"' in card
    everything = b"".join(repository.files.values()).decode(errors="replace")
    assert not [path for path in machine_paths(compared) if path in everything]
    assert not [row for row in ROWS if row["instruction"] in everything or row["output"] in everything]


def test_the_hubs_own_reader_finds_the_results(compared: Path) -> None:
    card = ModelCard(push(compared, "me/mine", base_model="google/mt5-small")["card"])
    results = {result.metric_type: result for result in card.data.eval_results or []}
    figures = json.loads((compared / "compare" / "eval.json").read_text(encoding="utf-8"))
    own = figures["models"]["main"]["figures"]
    assert results["chrf"].metric_value == pytest.approx(own["chrf"], abs=1e-4)
    assert results["chrf"].dataset_split == "eval"
    assert results["chrf"].dataset_name == "rows.json"
    assert "95 % interval" in str(results["chrf"].metric_name)
    assert results["chrf"].metric_args["signature"] == figures["signatures"]["chrf"]
    assert set(results) == {each["metric"] for each in figures["differences"]}


def test_trained_rows_of_the_embeddings_are_sent_with_their_adapter(
    tiny: Callable[[str], Path], hub: Hub, tmp_path: Path
) -> None:
    run = train_token_rows(tmp_path / "trained", tiny("t5"))
    rows = compare(run).rows
    assert [row.answers["main"] for row in rows] != [row.answers["base"] for row in rows]
    push(run, "me/rows", base_model="google-t5/t5-small", sends=True)
    files = hub.repositories["me/rows"].files
    assert json.loads(files["adapter_config.json"])["trainable_token_indices"] == TOKEN_IDS
    ours = load_file(run / "adapters" / "main" / "adapter_model.safetensors")
    sent = load(files["adapter_model.safetensors"])
    rows_of = [tensor for name, tensor in sent.items() if name.endswith("trainable_tokens_delta")]
    assert [len(rows) for rows in rows_of] == [len(TOKEN_IDS)]
    assert all(torch.equal(sent[name], ours[name]) for name in ours)


@pytest.mark.usefixtures("proof_here")
def test_a_merged_folder_is_sent_whole(compared: Path, hub: Hub, tmp_path: Path) -> None:
    out = tmp_path / "merged"
    merge(compared, out)
    push(compared, "team/merged", folder=out, is_public=True, sends=True)
    repository = hub.repositories["team/merged"]
    assert not repository.is_private
    expected = {file.relative_to(out).as_posix() for file in out.rglob("*") if file.is_file()}
    assert set(repository.files) == expected | {".gitattributes"}
    front = metadata(repository.files["README.md"])
    assert "base_model" not in front  # a folder of this machine
    assert front["model-index"][0]["name"] == "merged"
    assert b"before this folder was written" in repository.files["README.md"]
    other = tmp_path / "other"
    other.mkdir()
    with pytest.raises(RunError, match=r"is not a folder that `loraloom merge` or `loraloom export` wrote"):
        push(compared, "team/merged", folder=other)
    (other / "README.md").write_bytes(b"caf\xe9\n")
    with pytest.raises(RunError, match=r"is not a folder that"):
        push(compared, "team/merged", folder=other)
    card = (out / "README.md").read_text(encoding="utf-8")
    (other / "README.md").write_text(card.replace("adapter main", "adapter main-2"), encoding="utf-8")
    with pytest.raises(RunError, match=r"one whose README\.md names main"):
        push(compared, "team/merged", folder=other)
    (out / "link").symlink_to(compared)
    with pytest.raises(RunError, match="is a link; only files are sent"):
        push(compared, "team/merged", folder=out)


def test_an_export_of_the_adapter_alone_names_the_base_as_the_adapter_does(
    compared: Path, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prove_here(monkeypatch)
    out = tmp_path / "peft"
    export(compared, out, format="peft")
    with pytest.raises(RunError, match=r"others cannot load the adapter.*--base-model owner/name"):
        push(compared, "me/peft", folder=out, sends=True)
    push(compared, "me/peft", folder=out, base_model="google/mt5-small", sends=True)
    config = json.loads(hub.repositories["me/peft"].files["adapter_config.json"])
    assert config["base_model_name_or_path"] == "google/mt5-small"


def test_files_of_others_are_kept_and_visibility_is_never_widened(compared: Path, hub: Hub) -> None:
    hub.repositories["me/mine"] = Repository(True, {"notes.txt": b"mine", "README.md": b"old"})
    notes: list[Any] = []
    sent = push(
        compared, "me/mine", base_model="google/mt5-small", is_public=True, sends=True, report=notes.append
    )
    assert sent["is_private"]
    assert hub.repositories["me/mine"].is_private
    assert hub.repositories["me/mine"].files["notes.txt"] == b"mine"
    assert "1 of its files will be replaced and 1 will be kept" in str(notes[-1].message)
    hub.repositories["me/open"] = Repository(is_private=False)
    with pytest.raises(RunError, match="this repository exists and is public"):
        push(compared, "me/open", base_model="google/mt5-small", sends=True)
    assert not hub.repositories["me/open"].commits


def test_an_adapter_whose_base_nobody_has_is_not_sent(compared: Path, hub: Hub) -> None:
    with pytest.raises(RunError, match=r"others cannot load the adapter.*--base-model owner/name"):
        push(compared, "me/mine", sends=True)
    assert hub.asked == []


def test_a_relative_folder_of_a_base_is_no_name_on_the_hub(
    tiny: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "small").symlink_to(tiny("mt5"))
    monkeypatch.chdir(tmp_path)
    run = train_small(tmp_path, Path("models/small"))
    monkeypatch.chdir("/")
    assert push(run, "me/mine")["base"] is None


@pytest.mark.parametrize(
    ("part", "status", "said"),
    [
        ("repos/create", 403, "the token does not allow writing to this repository"),
        ("commit", 412, "the repository was changed by others at the same time"),
        ("commit", 413, "the hub refused the files"),
    ],
)
def test_refusals_are_named(compared: Path, hub: Hub, part: str, status: int, said: str) -> None:
    hub.refusal = (part, status, "because")
    with pytest.raises(RunError, match=rf"me/mine: {said} \(found: because\)"):
        push(compared, "me/mine", base_model="google/mt5-small", sends=True)
    assert not any(repository.commits for repository in hub.repositories.values())


def test_without_a_token_a_connection_or_a_name_nothing_is_sent(
    compared: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    def send() -> None:
        push(compared, "me/mine", base_model="google/mt5-small", sends=True)

    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(RunError, match="the hub does not accept the token"):
        send()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(RunError, match="HF_HUB_OFFLINE is set"):
        send()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    with pytest.raises(RunError, match="the files could not be sent"):
        send()
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(RunError, match=r"there is no hub token.*hf auth login"):
        send()
    for name in ("mine", "a/b/c", "me/-", "me/with space"):
        with pytest.raises(RecipeError, match="is not the name of a repository"):
            push(compared, name)
