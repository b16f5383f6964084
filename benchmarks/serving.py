"""64 clients of 8 adapters: our server, a server around PEFT, and our server with one merged model.

    python -m benchmarks.serving [--clients 64] [--adapters 8] [--requests 256] [--rounds 3] [--base FOLDER]

All servers are up during the whole run, and are measured in turn; only ratios within a round count. The
server around PEFT takes one request at a time (`benchmarks/peft_server.py`), so it gets an eighth of the
requests. Every client sends its next request when it has its answer. Decoding is greedy, in float32, and the
answers of both sides are compared. The adapters are random ones of rank 16 on all linears.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from benchmarks.processes import run
from benchmarks.rounds import options_of, ratio
from loraloom.starter import data_file, model_folder

MAX_TOKENS = 80
STD = 0.03  # of random adapters; with it the starter's answers become long
CLI = "from loraloom.cli import main; main()"
PEFT_SHARE = 8  # its part of the requests


def main() -> None:
    """Measure and print."""
    parser = options_of(__doc__)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--adapters", type=int, default=8)
    parser.add_argument("--requests", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--base", type=Path)
    parser.add_argument("--max-tokens", type=int, default=MAX_TOKENS)
    parser.add_argument("--without-peft", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as running:
        base = options.base or Path(model_folder())
        folders = random_adapters(base, options.adapters, Path(scratch))
        merged = Path(scratch) / "merged"
        first = next(iter(folders.values()))
        run(sys.executable, "-c", CLI, "merge", "--base", base, "--adapter", first, merged)
        named = [f"{name}={folder}" for name, folder in folders.items()]
        # The merged folder is the base of a server whose only adapter is never asked.
        sides = {
            "mixed": _ours(base, named, options.clients),
            "merged": _ours(merged, [f"unused={_idle(first, Path(scratch))}"], options.clients),
        }
        if not options.without_peft:
            sides["peft"] = _peft(base, named)
        ports = {side: running.enter_context(server) for side, server in sides.items()}
        rows = json.loads(data_file("train").read_text(encoding="utf-8"))
        prompts = [row["instruction"] for row in rows]
        names = list(folders)
        measured: dict[str, list[float]] = {side: [] for side in ports}
        answers: dict[str, dict[tuple[str, str], str]] = {side: {} for side in ports}
        for _ in range(options.rounds):
            for side, port in ports.items():
                number = options.requests // (PEFT_SHARE if side == "peft" else 1)
                asked = [
                    ("base" if side == "merged" else names[each % len(names)], prompts[each % len(prompts)])
                    for each in range(number)
                ]
                rate, texts = _load(port, asked, options.clients, options.max_tokens)
                measured[side].append(rate)
                answers[side].update(zip(asked, texts, strict=True))
            latest = {side: round(rates[-1], 1) for side, rates in measured.items()}
            print(f"{latest} load {os.getloadavg()[0]:.1f}", file=sys.stderr, flush=True)
    _report(measured, answers, options)


def _report(
    measured: dict[str, list[float]], answers: dict[str, dict[tuple[str, str], str]], options: Any
) -> None:
    print(f"{options.clients} clients, {options.adapters} adapters, {os.cpu_count()} processors")
    for side, rates in measured.items():
        print(f"{side:8}{statistics.median(rates):10.1f} tokens/s (median)")
    quotient = ratio(measured["mixed"], measured["merged"])
    print(f"{options.adapters} mixed adapters / one merged model: {quotient}")
    if "peft" in measured:
        print(f"mixed adapters / PEFT, one request at a time: {ratio(measured['mixed'], measured['peft'])}")
        both = answers["mixed"].keys() & answers["peft"].keys()
        same = sum(answers["mixed"][each].strip() == answers["peft"][each].strip() for each in both)
        print(f"{same} of {len(both)} answers are the same")


def random_adapters(base: Path, number: int, place: Path) -> dict[str, Path]:
    """Adapters of rank 16 on all linears, as PEFT saves them."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForSeq2SeqLM

    folders = {}
    model: Any = AutoModelForSeq2SeqLM.from_pretrained(base)
    config = LoraConfig(task_type="SEQ_2_SEQ_LM", r=16, lora_alpha=16, target_modules="all-linear")
    model = get_peft_model(model, config)
    for each in range(number):
        torch.manual_seed(each)
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                torch.nn.init.normal_(parameter, std=STD)
        folders[f"e{each}"] = place / f"e{each}"
        model.save_pretrained(folders[f"e{each}"])
    return folders


def _idle(adapter: Path, place: Path) -> Path:
    """An adapter without the fingerprint of its base, so that a merged folder can have it too."""
    copy = place / "idle"
    copy.mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (copy / name).write_bytes((adapter / name).read_bytes())
    return copy


@contextmanager
def _ours(base: Path, named: Sequence[str], clients: int) -> Iterator[int]:
    with our_server(base, named, queue=4 * clients) as (port, _):
        yield port


@contextmanager
def our_server(base: Path, named: Sequence[str], queue: int) -> Iterator[tuple[int, int]]:
    """Our server of a base and adapters: its port, and the number of its process."""
    words = ["--base", str(base), "--set", "dtype=float32", "--queue", str(queue)]
    for each in named:
        words += ["--adapter", each]
    port = free_port()
    with started([sys.executable, "-c", CLI, "serve", *words, "--port", str(port)], port) as process:
        yield port, process


@contextmanager
def _peft(base: Path, named: Sequence[str]) -> Iterator[int]:
    port = free_port()
    with started([sys.executable, "-m", "benchmarks.peft_server", str(base), str(port), *named], port):
        yield port


@contextmanager
def started(command: Sequence[str], port: int) -> Iterator[int]:
    """A server from when it answers until the end of the block, as the number of its process."""
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        while True:
            if process.poll() is not None:
                raise SystemExit(f"{' '.join(command[:6])} … ended with {process.returncode}")
            try:
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
                connection.request("GET", "/health")
                if connection.getresponse().status == 200:
                    break
            except OSError:
                pass
            time.sleep(0.2)
        yield process.pid
    finally:
        process.terminate()
        process.wait()


def free_port() -> int:
    """A port that is free at the moment."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _load(
    port: int, asked: Sequence[tuple[str, str]], clients: int, max_tokens: int
) -> tuple[float, list[str]]:
    """Send all requests, so many at once, and return the tokens per second and the answers."""

    def one(each: tuple[str, str]) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
        body = json.dumps({"model": each[0], "prompt": each[1], "max_tokens": max_tokens})
        connection.request("POST", "/v1/completions", body, {"content-type": "application/json"})
        answer = connection.getresponse()
        document = json.loads(answer.read())
        connection.close()
        assert answer.status == 200, document
        return document["usage"]["completion_tokens"], document["choices"][0]["text"]

    begun = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        results = list(pool.map(one, asked))
    seconds = time.perf_counter() - begun
    return sum(tokens for tokens, _ in results) / seconds, [text for _, text in results]


if __name__ == "__main__":
    main()
