"""1,000 clients for two minutes, some slow and some that leave: memory, 429, /health, whose text is whose.

    python -m benchmarks.server_load [--clients 1000] [--slow 200] [--seconds 120] [--base FOLDER]

The clients are processes of their own (`benchmarks/load_clients.py`). Each sends its next request as soon as
it has its answer, or after the time that `Retry-After` says; 30 % leave before the end of an answer. A third
of the slow ones sends its head byte by byte, a third its body, and a third reads a long stream byte by byte.
200 canaries, pairs of a prompt and an adapter whose greedy answers are known beforehand, tell whether anybody
is given the text of another. At the end all clients leave at once. What a probe of a server with nothing else
to do takes (`benchmarks/bare_server.py`) is what the machine itself takes.
"""

from __future__ import annotations

import http.client
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from benchmarks.rounds import options_of
from benchmarks.serving import our_server, random_adapters
from loraloom.starter import data_file, model_folder

CANARIES = 200
MAX_TOKENS = 16
IDLE_PROBES = 300
SECONDS_BETWEEN_PROBES = 0.05
SECONDS_BETWEEN_MEMORY = 15.0


def main() -> None:
    """Measure and print."""
    parser = options_of(__doc__)
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--slow", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--adapters", type=int, default=8)
    parser.add_argument("--queue", type=int, default=256)
    parser.add_argument("--base", type=Path)
    options = parser.parse_args()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 8192), most))
    with tempfile.TemporaryDirectory() as scratch:
        base = options.base or Path(model_folder())
        folders = random_adapters(base, options.adapters, Path(scratch))
        named = [f"{name}={folder}" for name, folder in folders.items()]
        with our_server(base, named, options.queue) as (port, process):
            known = Path(scratch) / "canaries.json"
            known.write_text(json.dumps(_canaries(port, list(folders))), encoding="utf-8")
            with bare_server() as bare:
                idle = [(_seconds_of_health(port), _seconds_of_health(bare)) for _ in range(IDLE_PROBES)]
                _measure(port, bare, process, known, idle, options)


def _canaries(port: int, models: list[str]) -> list[dict[str, str]]:
    """Prompts for adapters, with their answers, each asked for alone."""
    rows = json.loads(data_file("train").read_text(encoding="utf-8"))
    prompts = sorted({row["instruction"] for row in rows})
    canaries = []
    for number in range(CANARIES):
        asked = {"model": models[number % len(models)], "prompt": prompts[number % len(prompts)]}
        document = _post(port, {**asked, "max_tokens": MAX_TOKENS, "temperature": 0})
        canaries.append({**asked, "answer": document["choices"][0]["text"]})
    return canaries


@contextmanager
def bare_server() -> Iterator[int]:
    """A server with nothing else to do, as its port: what it takes under load, no other can undercut."""
    with _running("benchmarks.bare_server") as process:
        assert process.stdout is not None
        yield int(process.stdout.readline())


@contextmanager
def _running(module: str, *words: str) -> Iterator[subprocess.Popen[str]]:
    """A process that ends with the block at the latest."""
    command = [sys.executable, "-m", module, *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def _measure(
    port: int, bare: int, process: int, known: Path, idle: list[tuple[float, float]], options: Any
) -> None:
    words = [port, options.clients, options.slow, MAX_TOKENS, known]
    with _running("benchmarks.load_clients", *map(str, words)) as clients:
        loaded = _watch(port, bare, process, options.seconds)
        clients.terminate()  # it prints what it saw, and closes all connections
        assert clients.stdout is not None
        said = json.loads(clients.stdout.readline())
        clients.wait()
    left = time.monotonic()
    while _figure(port, "batch_rows") or _figure(port, "requests_under_way"):
        time.sleep(0.02)
    gone = time.monotonic() - left
    restarts = _figure(port, "model_restarts_total")
    for name, number in said.items():
        print(f"{name:42}{number:10,}")
    print(f"{'model processes that had to be replaced':42}{restarts:10.0f}")
    print(f"all clients left: {gone:.2f} s until nothing was generated any more")
    print(f"{f'ms of {len(loaded):,} probes':31}    idle  median     p99 under load")
    for number, name in enumerate(("/health", "server with nothing else to do")):
        _print_times(name, [each[number] for each in idle], [each[number] for each in loaded])


def _watch(port: int, bare: int, process: int, seconds: float) -> list[tuple[float, float]]:
    """Print memory now and then, and return what probes of both servers take."""
    loaded, begun, memory_due = list[tuple[float, float]](), time.monotonic(), 0.0
    children = psutil.Process(process).children()
    model = next(child for child in children if "loraloom.serving.worker" in child.cmdline())
    print("seconds  server RssAnon  model RssAnon  batch rows  under way  load")
    while (passed := time.monotonic() - begun) < seconds:
        if passed >= memory_due:
            memory_due += SECONDS_BETWEEN_MEMORY
            rows, waiting = (_figure(port, name) for name in ("batch_rows", "requests_under_way"))
            sizes = f"{_anonymous_mib(process):10.0f} MiB {_anonymous_mib(model.pid):10.0f} MiB"
            print(f"{passed:7.0f} {sizes} {rows:11.0f} {waiting:10.0f} {os.getloadavg()[0]:5.1f}", flush=True)
        loaded.append((_seconds_of_health(port), _seconds_of_health(bare)))
        time.sleep(SECONDS_BETWEEN_PROBES)
    return loaded


def _print_times(name: str, idle: list[float], loaded: list[float]) -> None:
    usual = statistics.median(idle)
    both = statistics.median(loaded), statistics.quantiles(loaded, n=100)[98]
    times = " ".join(f"{1000 * each:7.2f}" for each in (usual, *both))
    print(f"{name:31} {times}  {both[0] / usual:7.1f} x {both[1] / usual:5.1f} x the idle median")


def _seconds_of_health(port: int) -> float:
    begun = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/health")
    answer = connection.getresponse()
    assert answer.status == 200, answer.status
    answer.read()
    connection.close()
    return time.perf_counter() - begun


def _post(port: int, body: dict[str, Any]) -> dict[str, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    connection.request("POST", "/v1/completions", json.dumps(body), {"content-type": "application/json"})
    answer = connection.getresponse()
    document = json.loads(answer.read())
    connection.close()
    assert answer.status == 200, document
    return dict(document)


def _figure(port: int, name: str) -> float:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/metrics")
    lines = connection.getresponse().read().decode().splitlines()
    connection.close()
    return float(next(line.split()[-1] for line in lines if line.startswith(f"loraloom_{name} ")))


def _anonymous_mib(process: int) -> float:
    """Memory without mapped files; all of the resident set if the system cannot tell."""
    try:
        status = Path(f"/proc/{process}/status").read_text(encoding="ascii")
    except OSError:
        return float(psutil.Process(process).memory_info().rss) / (1 << 20)
    line = next(line for line in status.splitlines() if line.startswith("RssAnon:"))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    main()
