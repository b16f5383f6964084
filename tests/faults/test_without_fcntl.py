"""Without fcntl, as on Windows: every module is imported, and a run is made, locked and finished."""

from __future__ import annotations

import ast
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.commands.trained import ROWS

PACKAGE = Path(__file__).parents[2] / "loraloom"
# What Windows lacks of modules that it has; each would be an AttributeError there.
POSIX_ALONE = ("os.fork", "os.fchmod", "os.getuid", "os.geteuid", "os.sysconf", "os.killpg", "os.nice")
POSIX_ALONE += ("signal.SIGKILL", "signal.SIGHUP", "signal.SIGALRM", "signal.alarm", "signal.setitimer")
LAST_NAMES = {name.rpartition(".")[2] for name in POSIX_ALONE}

# What other packages need on Linux alone is imported first; filelock then has a lock of the system, as it has
# on Windows. A name that is None in sys.modules cannot be imported.
BLOCKED = """
import sys
import filelock, portalocker
sys.modules["fcntl"] = None
"""
IMPORTS = """
import importlib, importlib.util, pkgutil
import loraloom
OTHERS = {
    ("onnxruntime", "loraloom.export.onnx_runtime"),
    ("onnx_ir", "loraloom.export.onnx.decoder"),
    ("llama_cpp", "loraloom.export.gguf_runtime"),
}
names = [found.name for found in pkgutil.walk_packages(loraloom.__path__, "loraloom.")]
for name in names:
    if not name.endswith("_kernels") or importlib.util.find_spec("triton"):  # a GPU's, behind HAS_TRITON
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:  # the runtime of an export format or a tracker, which are extras
            named = (f"{error.name}_runtime", f"{error.name}_run")
            assert name.rpartition(".")[2] in named or (error.name, name) in OTHERS, error
assert len(names) > 200, names
"""
STORY = """
from pathlib import Path
from loraloom.cli import main
def call(*words):
    try:
        sys.argv = ["loraloom", *words]
        main()
    except SystemExit as end:
        assert not end.code, (words, end.code)
call("init", "rows.json", "--model", BASE)
call("check", "recipe.yaml", "--data-only")
call("train", "recipe.yaml", "--out", "run")
call("train", "--resume", "run")
call("report", "run")
assert (Path("run") / "adapters" / "main" / "adapter_model.safetensors").is_file()
"""
HOLDS = """
import time
from pathlib import Path
from loraloom.run.lock import locked
with locked(Path("run") / ".lock"):
    print("held", flush=True)
    time.sleep(60)
"""
LOCKS = """
from pathlib import Path
from loraloom.errors import RunError
from loraloom.run.lock import is_held, locked, writing
path = Path("run") / ".lock"
assert is_held(path) is bool(PID)
try:
    with locked(path):
        assert is_held(path)
        assert path.read_text().strip().isdigit()
        with writing(Path("report.html"), doing="is writing this report"):
            assert is_held(Path(".report.html.lock"))
        assert not Path(".report.html.lock").exists()
    assert not PID
except RunError as error:
    assert PID and f"another process is using this run (pid {PID})" in str(error), error
"""


def test_nothing_is_used_that_posix_alone_has() -> None:
    for file in PACKAGE.rglob("*.py"):
        used = [
            ast.unparse(node)
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
            if isinstance(node, ast.Attribute) and node.attr in LAST_NAMES
        ]
        assert not set(used).intersection(POSIX_ALONE), file


def start(code: str, folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", BLOCKED + code],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(code: str, folder: Path) -> None:
    process = start(code, folder)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stderr


def test_everything_is_imported_and_a_run_is_made_and_finished(
    tiny: Callable[[str], Path], tmp_path: Path
) -> None:
    (tmp_path / "rows.json").write_text(json.dumps(ROWS, ensure_ascii=False), encoding="utf-8")
    recipe = {
        "model_name_or_path": str(tiny("mt5")),
        "data": {"train": "rows.json", "eval": 6, "max_target_length": 16},
        "lora": {"r": 2},
        "training": {"max_steps": 2, "per_device_train_batch_size": 4},
        "device": "cpu",
    }
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe), encoding="utf-8")
    run(f"{IMPORTS}BASE = {str(tiny('mt5'))!r}\n{STORY}", tmp_path)


def test_a_lock_excludes_others_names_its_holder_and_dies_with_it(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    run(f"PID = 0\n{LOCKS}", tmp_path)
    holder = start(HOLDS, tmp_path)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        run(f"PID = {holder.pid}\n{LOCKS}", tmp_path)
    finally:
        os.kill(holder.pid, signal.SIGKILL)
        holder.communicate()
    run(f"PID = 0\n{LOCKS}", tmp_path)


@pytest.mark.parametrize("is_there", [True, False])
def test_an_apple_gpu_is_taken_only_if_it_is_asked_for(
    is_there: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from loraloom.base.device_and_dtype import choose_device

    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: is_there)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    chosen = choose_device("auto")
    assert chosen.value == "cpu"
    assert ("set device: mps to use it" in chosen.reason) is is_there
    if is_there:
        assert "untested on Apple GPUs" in choose_device("mps").reason
