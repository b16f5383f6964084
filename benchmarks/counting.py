"""What a step needs and what it takes: arithmetic, the rate of products, waits of the host, kernels."""

from __future__ import annotations

import statistics
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.sides import Machine, Ours, Stock

Lengths = Sequence[tuple[int, int]]  # source and target tokens of each example


def step_flops(machine: Machine, lengths: Lengths) -> float:
    """What the method needs: products of the body forward and to the inputs, the head's two, attention's.

    Args:
        machine: its shape is the model's.
        lengths: of the examples of the step.
    """
    shape = machine.shape
    inner = shape["num_heads"] * shape["d_kv"]
    sources, targets = (sum(length) for length in zip(*lengths, strict=True))
    products = 4.0 * sum(
        count * wide * narrow * {"source": sources, "target": targets}[side]
        for wide, narrow, count, side in _products(shape)
    )
    layers = shape["num_layers"], shape["num_decoder_layers"]
    # Two products forward and four backward, each of 2 · queries · keys · inner.
    pairs = sum(layers[0] * s * s + layers[1] * (t * t + t * s) for s, t in lengths)
    found: float = products + 6 * 2 * inner * pairs
    return found


def gemm_rate(machine: Machine, lengths: Lengths) -> float:
    """FLOP/s of the model's own products at a number of tokens, weighed by their share of its work."""
    sources, targets = (sum(length) for length in zip(*lengths, strict=True))
    flops = seconds = 0.0
    for wide, narrow, count, side in _products(machine.shape):
        tokens = sources if side == "source" else targets
        x = torch.randn(min(tokens, 8_192) if narrow == machine.shape["vocab_size"] else tokens, wide).to(
            machine.device, machine.dtype
        )
        weight = torch.randn(narrow, wide).to(machine.device, machine.dtype)
        y = x @ weight.t()
        each = _median_seconds(machine, partial(torch.matmul, x, weight.t()))
        each += _median_seconds(machine, partial(torch.matmul, y, weight))
        flops += count * 4.0 * tokens * wide * narrow
        seconds += count * each * tokens / len(x)
    return flops / seconds


def _products(shape: Mapping[str, Any]) -> list[tuple[int, int, int, str]]:
    """Wide and narrow side of each kind of weight, how many there are, and whose tokens they take."""
    d, inner, d_ff = shape["d_model"], shape["num_heads"] * shape["d_kv"], shape["d_ff"]
    layers, decoders = shape["num_layers"], shape["num_decoder_layers"]
    gates = 3 if "gated" in shape["feed_forward_proj"] else 2
    return [
        (d, inner, 4 * layers + 2 * decoders, "source"),
        (d, inner, 6 * decoders, "target"),
        (d, d_ff, gates * layers, "source"),
        (d, d_ff, gates * decoders, "target"),
        (d, shape["vocab_size"], 1, "target"),
    ]


def _median_seconds(machine: Machine, work: Callable[[], Any], repeats: int = 7) -> float:
    """Time one call; on a GPU, in a graph of several, to leave out the time of starting them from Python."""
    calls, run = 5, work
    work()
    if machine.is_gpu:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            for _ in range(calls):
                work()
        run, calls = graph.replay, 1
    found = []
    for _ in range(repeats):
        machine.wait()
        begun = machine.clock()
        for _ in range(calls):
            run()
        machine.wait()
        found.append((machine.clock() - begun) / 5)
    return statistics.median(found)


@contextmanager
def counting_syncs(machine: Machine) -> Iterator[list[str]]:
    """How often the host waits for the device, as torch tells it."""
    places: list[str] = []
    if not machine.is_gpu:
        yield places
        return
    torch.cuda.set_sync_debug_mode("warn")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            yield places
        finally:
            torch.cuda.set_sync_debug_mode("default")
    places += [f"{w.filename}:{w.lineno}" for w in caught if "synchronizing" in str(w.message)]


def profile(machine: Machine, side: Ours | Stock, folder: Path | None, name: str) -> tuple[int, float]:
    """How many kernels a step has, and their milliseconds; a table of them into a folder."""
    kinds = [torch.profiler.ProfilerActivity.CPU]
    if machine.is_gpu:
        kinds.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=kinds) as found:
        side.step()
        machine.wait()
    averages = found.key_averages()
    kernels = [e for e in averages if e.device_type.name == "CUDA"]
    if folder:
        folder.mkdir(exist_ok=True, parents=True)
        busy = sum(e.self_device_time_total for e in kernels)
        lines = [f"{name}: {sum(e.count for e in kernels)} kernels, {busy / 1e3:.2f} ms of them in one step"]
        for event in sorted(kernels, key=lambda e: -e.self_device_time_total)[:45]:
            lines.append(f"{event.self_device_time_total / 1e3:9.3f} ms {event.count:6d}  {event.key[:110]}")
        lines.append("on the host:")
        for event in sorted(averages, key=lambda e: -e.self_cpu_time_total)[:25]:
            lines.append(f"{event.self_cpu_time_total / 1e3:9.3f} ms {event.count:6d}  {event.key[:110]}")
        (folder / f"{name.replace(', ', '-').replace(' ', '-')}.txt").write_text("\n".join(lines) + "\n")
    return sum(e.count for e in kernels), sum(e.self_device_time_total for e in kernels) / 1e3
