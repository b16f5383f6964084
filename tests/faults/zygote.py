"""A warm process that forks one child for every command line: imports are paid once, deaths are real.

It never trains itself, has one thread, and so may be forked. Reads one JSON object a line:
    {"argv", "cwd", "stdout", "stderr", "env", "faults"} → {"pid": …}
    {"wait": pid} → {"code": exit code, or minus the signal}
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib
import io
import json
import os
import pkgutil
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from tests.fast_process import FullCollections, read_revisions_once, skip_waiting_for_disk
from tests.proof import measure_here

IMPORTED = (
    "alembic.command",
    "numpy.ma",
    "peft",
    "rich._emoji_codes",
    "sacrebleu",
    "typer.rich_utils",
)
# The first runs a worker; the others need Ray.
NOT_IMPORTED = {f"loraloom.workers.{name}" for name in ("__main__", "cluster", "cluster_nodes", "ray_actor")}
UNREAD = "|"  # in the place of a path: a pipe whose reader has left


def main() -> None:
    import_what_verbs_need()
    from loraloom.export import merged_folder

    skip_waiting_for_disk()
    FullCollections().exempt_all()
    if os.environ.get("HF_HUB_OFFLINE"):  # as the fresh process of a merge is
        merged_folder.run_fresh_process = measure_here
    for line in sys.stdin:
        job = json.loads(line)
        if "wait" in job:
            _, status = os.waitpid(job["wait"], 0)
            answer = {"code": os.waitstatus_to_exitcode(status)}
        else:
            pid = os.fork()
            if pid == 0:
                _be_the_command(job)
            answer = {"pid": pid}
        print(json.dumps(answer), flush=True)


def import_what_verbs_need() -> None:
    """Import and compute what each of hundreds of children would otherwise import and compute itself."""
    for name in IMPORTED:
        importlib.import_module(name)
    from optuna.storages import RDBStorage
    from transformers import MT5ForConditionalGeneration  # noqa: F401
    from transformers.conversion_mapping import get_checkpoint_conversion_mapping

    import loraloom.architectures
    import loraloom.cli
    import loraloom.commands
    import loraloom.console
    import loraloom.workers
    from loraloom.checks.data.scripts import _only_simplified_and_traditional
    from loraloom.report.page import environment

    get_checkpoint_conversion_mapping("mt5")  # compiles the regular expressions of all models, once a process
    _only_simplified_and_traditional()
    read_revisions_once()
    RDBStorage("sqlite:///:memory:")  # reads them
    pages = environment()
    for name in pages.list_templates(extensions=["j2"]):  # compiles them
        pages.get_template(name)
    for package in (loraloom.commands, loraloom.console, loraloom.architectures, loraloom.workers):
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            if module.name not in NOT_IMPORTED:
                importlib.import_module(module.name)


def _be_the_command(job: dict[str, Any]) -> None:
    os.chdir(job["cwd"])
    os.environ.update(job["env"])
    for number, path in enumerate((os.devnull, job["stdout"], job["stderr"])):
        flags = os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        os.dup2(_unread_pipe() if path == UNREAD else os.open(path, flags), number)
    encoding = os.environ.get("PYTHONIOENCODING", "utf-8")
    sys.stdout = io.TextIOWrapper(io.BufferedWriter(io.FileIO(1, "w", closefd=False)), encoding=encoding)
    sys.stderr = io.TextIOWrapper(
        io.BufferedWriter(io.FileIO(2, "w", closefd=False)), "utf-8", "backslashreplace", line_buffering=True
    )
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    sys.argv = ["loraloom", *job["argv"]]
    code: Any = 0
    try:
        _install(job["faults"])
        from loraloom.cli import main as command

        command()
    except SystemExit as leaving:
        code = leaving.code or 0
    except BaseException:
        traceback.print_exc()
        code = 70
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    os._exit(code)


def _unread_pipe() -> int:
    reader, writer = os.pipe()
    os.close(reader)
    return writer


def _install(faults: dict[str, Any]) -> None:
    from tests.faults.instruments import (
        HELD_SECONDS,
        FileOperations,
        at_call,
        die,
        hold,
        leave_a_worker_and_die,
        limit_memory,
    )

    if "operation" in faults or "log" in faults:
        FileOperations(
            Path(faults["root"]),
            Path(faults["log"]),
            faults.get("operation", 0),
            faults.get("how", "before"),
            is_power_cut=faults.get("is_power_cut", False),
        ).install()
    if "call" in faults:
        act = die
        if "reached" in faults:
            seconds = faults.get("seconds", HELD_SECONDS)
            act = functools.partial(hold, Path(faults["reached"]), Path(faults["go"]), seconds)
        if "room_mib" in faults:
            act = functools.partial(limit_memory, faults["room_mib"])
        if "worker" in faults:
            act = functools.partial(leave_a_worker_and_die, Path(faults["worker"]))
        at_call(faults["call"], faults["number"], faults.get("how", "before"), act)
    if "watch" in faults:
        from tests.security.watch import watch

        watch(Path(faults["watch"]), Path(faults["foreign"]))
    if "fresh" in faults:
        from loraloom.export import merged_folder, proof

        merged_folder.run_fresh_process = proof.run_fresh_process
    if "naps" in faults:
        _write_sleep_down(Path(faults["naps"]))
    if "waves" in faults:
        _train_in_waves(faults["waves"])


def _write_sleep_down(file: Path) -> None:
    """Nobody sleeps any more: the seconds go to a file, one number a line."""

    def sleep(seconds: float) -> None:
        with file.open("a") as naps:
            print(seconds, file=naps)

    time.sleep = sleep


def _train_in_waves(waves: list[list[str]]) -> None:
    """As if memory did not hold all experiments together."""
    import loraloom.commands.train as workflow

    make_plan = workflow.make_plan
    workflow.make_plan = lambda *args: dataclasses.replace(make_plan(*args), waves=waves)


if __name__ == "__main__":
    main()
