"""A walk through our own code: what runs foreign code, reads a pickle or reaches out is not there."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "loraloom"
FILES = sorted(PACKAGE.rglob("*.py"))

PICKLES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
NETWORK = {"socket", "urllib", "http", "httpx", "requests", "aiohttp", "ftplib", "smtplib", "huggingface_hub"}
CODE = {"importlib.import_module", "__import__", "eval", "exec", "compile", "runpy.run_path"}
# The one place that loads .bin weights is transformers' own, told `weights_only=True` (base/loading.py).
TORCH_PICKLES = {"torch.load", "torch.save", "torch.jit.load", "torch.hub.load", "numpy.load", "np.load"}
UNSAFE_YAML = {"yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.full_load"}
SHELL = {"os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"}
# The proof of a merged model, in a process that knows nothing of ours; the model processes of the servers;
# trainings and checks that the pages start; trackers, which are packages of others; workers.
STARTS_A_PROCESS = {
    "export/proof.py",
    "serving/model_process.py",
    "trackers/process.py",
    "web/accepting.py",
    "web/pages/jobs.py",
    "web/pages/questions.py",
    "workers/devices.py",
}
# A server binds its address; nothing here connects to another.
LISTENS = {
    "web/acceptor.py",
    "web/accepting.py",
    "web/accepting_server.py",
    "web/ports.py",
    "web/openai_api/api_server.py",
    "web/pages/pages_server.py",
}
# Connects to the address of a cluster that the user gives.
CONNECTS = {"workers/ray_options.py"}
# They take apart what a request says, and reach nobody.
ONLY_PARSES = ("urllib.parse.", "http.cookies.")
# A look into the local cache, the form of evaluation results, names of statuses, the division of tensors into
# files; they ask nobody.
ASKS_NOBODY = {
    "http.HTTPStatus",
    "huggingface_hub.try_to_load_from_cache",
    "huggingface_hub.EvalResult",
    "huggingface_hub.split_torch_state_dict_into_shards",
    "huggingface_hub.repocard_data.eval_results_to_model_index",
}
# `push --send`: the hub's own client.
SENDS = {"export/hub_upload.py"}
# A base that is named `owner/name@revision`: files of data alone, by the hub's own client.
DOWNLOADS = {"base/hub_snapshot.py"}
# The public API: names from a table of its own.
# The proof of an export: the module of a format's runtime, from a table too.
IMPORTS_BY_NAME = {"__init__.py", "export/runtime.py"}


def imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """Every call with its dotted name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def faults(source: str, name: str = "x.py") -> list[str]:
    """What is forbidden in a file, each with its line."""
    tree = ast.parse(source)
    found = [
        f"imports {module}"
        for module in {*imports(tree)} - ASKS_NOBODY
        if module.split(".")[0] in PICKLES | NETWORK
        and not module.startswith(ONLY_PARSES)
        and not (module == "socket" and name in LISTENS | CONNECTS)
        and not (module.startswith("huggingface_hub.") and name in SENDS | DOWNLOADS)
    ]
    for called, node in calls(tree):
        allowed = {"importlib.import_module"} if name in IMPORTS_BY_NAME else set()
        if called in (TORCH_PICKLES | UNSAFE_YAML | SHELL | CODE) - allowed:
            found.append(f"{node.lineno}: calls {called}")
        starts = called.startswith(
            (
                "subprocess.",
                "asyncio.create_sub",
                "asyncio.subprocess.create",
                "os.exec",
                "os.spawn",
                "os.posix_spawn",
            )
        )
        if starts and name not in STARTS_A_PROCESS:
            found.append(f"{node.lineno}: starts a process by {called}")
        for keyword in node.keywords:
            value = ast.unparse(keyword.value)
            if keyword.arg == "shell" or (keyword.arg == "trust_remote_code" and value != "False"):
                found.append(f"{node.lineno}: {keyword.arg}={value}")
            if keyword.arg in ("weights_only", "autoescape") and value == "False":
                found.append(f"{node.lineno}: {keyword.arg}=False")
            if keyword.arg == "Loader" and value != "yaml.SafeLoader":
                found.append(f"{node.lineno}: Loader={value}")
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_nothing_forbidden_is_in(file: Path) -> None:
    assert faults(file.read_text(encoding="utf-8"), str(file.relative_to(PACKAGE))) == []


def test_every_load_by_transformers_says_that_code_is_not_trusted() -> None:
    """And what loads weights says that pickles are read as tensors only."""
    seen = 0
    for file in FILES:
        for called, node in calls(ast.parse(file.read_text(encoding="utf-8"))):
            if called.startswith("Auto") and called.endswith(".from_pretrained"):
                said = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
                where = f"{file.name}:{node.lineno}"
                assert said.get("trust_remote_code") == "False", where
                if "Model" in called:
                    assert said.get("weights_only") == "True" or said.get("use_safetensors") == "True", where
                seen += 1
    assert seen >= 3


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from joblib import load",
        "import requests",
        "from huggingface_hub import snapshot_download",
        "torch.load(f)",
        "torch.load(f, weights_only=True)",
        "yaml.load(t)",
        "yaml.load_all(t, Loader=yaml.FullLoader)",
        "eval('1')",
        "os.system('x')",
        "subprocess.run(c)",
        "asyncio.create_subprocess_exec(c)",
        "import socket",
        "import urllib.request",
        "f(shell=True)",
        "f(trust_remote_code=True)",
        "f(trust_remote_code=x)",
        "f(weights_only=False)",
    ],
)
def test_the_walk_finds_what_it_looks_for(source: str) -> None:
    assert faults(source)
