"""What an export costs: peak memory beside the float32 base, and time beside the bare converter.

    python -m benchmarks.exports [--memory-shape mt0-large] [--only merge] [--time-shape mt5-small]
        [--rounds 3] [--scratch FOLDER]

Folders of random weights and an adapter with random B are made in a temporary place. Memory: `loraloom
merge`, in memory and shard by shard, and `loraloom export --format ctranslate2` on an mt0-large, float32 and
int8 (`--only merge`: commands that begin so); the peak is that of the process
and all that it starts, over the size of the base in float32: what the kernel cannot drop, and all resident
pages, with those of mapped files, which it can. Time: an export of mt5-small's shape to CTranslate2 with its
proof, over CTranslate2's own converter on the merged folder; both in turn, whole processes. What the export
spends in one function, `merge_proven`, is subtracted from it: the logits of base + adapter, W + s·B·A, and
the logits and greedy answers of the merged model, which are compared. Base + adapter's own greedy answers,
with which the export is compared too, are not subtracted. CPU time too, which other programs change less.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForSeq2SeqLM

from benchmarks.processes import python
from benchmarks.random_models import SHAPES
from benchmarks.rounds import options_of, ratio
from tests.tiny import make_folder

SECONDS_BETWEEN_LOOKS = 0.05
MERGING = "merging.json"
MAIN = "from loraloom.cli import main; main()"
# The real converter, with the flag set right, as a user would call it.
BARE = """
import sys
from ctranslate2.converters import TransformersConverter
class Converter(TransformersConverter):
    def load_model(self, model_class, name, **options):
        model = super().load_model(model_class, name, **options)
        model.config.tie_word_embeddings = False
        return model
Converter(sys.argv[1]).convert(sys.argv[2], quantization=sys.argv[3])
"""
# An export, and how long merging with the check of it took, of the clock and of the processor.
TIMED = """
import json, sys, time
from pathlib import Path
import loraloom.export.export_reference as reference
from loraloom.cli import main
merge, merging = reference.merge_proven, Path(sys.argv.pop(1))
def timed(*given):
    begun = time.perf_counter(), time.process_time()
    found = merge(*given)
    spent = time.perf_counter() - begun[0], time.process_time() - begun[1]
    merging.write_text(json.dumps(spent))
    return found
reference.merge_proven = timed
main()
"""


def main() -> None:
    """Measure and print two Markdown tables."""
    parser = options_of(__doc__)
    parser.add_argument("--memory-shape", default="mt0-large", choices=[*SHAPES, "none"])
    parser.add_argument("--only", default="", help="measure the memory of commands that begin so")
    parser.add_argument("--time-shape", default="mt5-small", choices=[*SHAPES, "none"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scratch", type=Path, help="a folder for the models; by default the system's")
    parser.add_argument("--make", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--shape", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.make is not None:
        make(options.make, options.shape)
        return
    if options.memory_shape != "none":
        with made(options.memory_shape, options.scratch) as folder:
            measure_memory(folder, options.memory_shape, options.only)
    if options.time_shape != "none":
        with made(options.time_shape, options.scratch) as folder:
            measure_time(folder, options.time_shape, options.rounds)


@contextmanager
def made(shape: str, scratch: Path | None) -> Iterator[Path]:
    """A folder with `base` and `adapter`, made by a process whose memory is gone afterwards."""
    with tempfile.TemporaryDirectory(dir=scratch) as name:
        python("-m", "benchmarks.exports", "--make", name, "--shape", shape)
        yield Path(name)


def make(folder: Path, shape: str) -> None:
    """A base of random weights in bfloat16, and an adapter with a random B on all linears."""
    torch.set_default_dtype(torch.bfloat16)
    make_folder(folder / "base", f"{shape}-shape")
    model = AutoModelForSeq2SeqLM.from_pretrained(folder / "base", dtype=torch.bfloat16)
    config = LoraConfig(task_type="SEQ_2_SEQ_LM", r=16, lora_alpha=32, target_modules="all-linear")
    adapted = get_peft_model(model, config)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.01)
    adapted.save_pretrained(folder / "adapter")


def float32_bytes(folder: Path) -> int:
    """The size of a base's weights in float32."""
    with torch.device("meta"):
        model = AutoModelForSeq2SeqLM.from_config(AutoConfig.from_pretrained(folder))
    num_weights: int = sum(parameter.numel() for parameter in model.parameters())
    head = model.get_output_embeddings().weight
    tied = head is model.get_input_embeddings().weight
    num_of_head: int = head.numel() if tied else 0
    return 4 * (num_weights + num_of_head)  # the folder has a head of its own


def measure_memory(folder: Path, shape: str, only: str) -> None:
    """Print the peaks of merge and export, of commands that begin with `only`."""
    whole = float32_bytes(folder / "base")
    imports, _ = peak_of(["-c", "import loraloom.commands.export, loraloom.console"])
    print(f"{shape}: {whole / 2**20:,.0f} MiB in float32; imports alone {imports / 2**20:,.0f} MiB\n")
    print(
        "| command | peak | / float32 base | without imports | with mapped files | seconds |\n"
        "|---|---|---|---|---|---|",
        flush=True,
    )
    given = ["--base", folder / "base", "--adapter", folder / "adapter"]
    commands = {
        "merge": ["merge", *given, folder / "merged"],
        "merge --shard-by-shard": ["merge", *given, folder / "merged", "--shard-by-shard"],
        "merge --dtype float32": ["merge", *given, folder / "merged", "--dtype", "float32"],
        "merge --dtype float32 --shard-by-shard": [
            *("merge", *given, folder / "merged", "--dtype", "float32", "--shard-by-shard"),
        ],
        **{
            f"export --format ctranslate2 --quantization {quantization}": [
                *("export", *given, folder / "ct2"),
                *("--format", "ctranslate2", "--quantization", quantization),
            ]
            for quantization in ("float32", "int8")
        },
    }
    for name, words in commands.items():
        if not name.startswith(only):
            continue
        begun = time.perf_counter()
        peak, mapped = peak_of(["-c", MAIN, *words])
        seconds = time.perf_counter() - begun
        for made_folder in (folder / "merged", folder / "ct2"):
            shutil.rmtree(made_folder, ignore_errors=True)
        shares = (peak / whole, (peak - imports) / whole, mapped / whole)
        cells = name, f"{peak / 2**20:,.0f} MiB", *(f"{share:.2f}" for share in shares), f"{seconds:.0f}"
        print(f"| {' | '.join(cells)} |", flush=True)


def peak_of(words: list[object]) -> tuple[int, int]:
    """The highest memory of this interpreter with these words, and of all that it starts, in bytes.

    Returns:
        That of the pages of no file, and of all resident pages.

    Raises:
        SystemExit: it failed.
    """
    begun = psutil.Popen(
        [sys.executable, *map(str, words)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    peak, mapped = 0, 0
    while begun.poll() is None:
        found = [resident(each) for each in (begun, *children_of(begun))]
        peak = max(peak, sum(own for own, _ in found))
        mapped = max(mapped, sum(own for _, own in found))
        time.sleep(SECONDS_BETWEEN_LOOKS)
    if begun.returncode != 0:
        raise SystemExit(begun.stderr.read().decode()[-1000:])
    return peak, mapped


def children_of(process: psutil.Process) -> list[psutil.Process]:
    """All that a process started, and they."""
    try:
        found: list[psutil.Process] = process.children(recursive=True)
    except psutil.Error:
        return []
    return found


def resident(process: psutil.Process) -> tuple[int, int]:
    """Its resident pages of no file, and all of them, in bytes; 0 if it has ended."""
    try:
        memory = process.memory_info()
    except psutil.Error:
        return 0, 0
    return int(memory.rss - memory.shared), int(memory.rss)


def measure_time(folder: Path, shape: str, num_rounds: int) -> None:
    """Print the time of an export beside that of the bare converter."""
    given = ["--base", folder / "base", "--adapter", folder / "adapter"]
    python("-c", MAIN, "merge", *given, folder / "merged", "--dtype", "float32")
    print(
        "\n| CTranslate2, shape | quantization | export with its proof, without merging / bare converter |",
        end="",
    )
    print(" CPU time | with merging, CPU time |\n|---|---|---|---|---|", flush=True)
    for quantization in ("float32", "int8"):
        ours, bare, merging = [], [], []
        for _ in range(num_rounds):
            bare.append(spent("-c", BARE, folder / "merged", folder / "bare", quantization))
            words = ["--format", "ctranslate2", "--quantization", quantization]
            ours.append(spent("-c", TIMED, folder / MERGING, "export", *given, folder / "ct2", *words))
            merging.append(json.loads((folder / MERGING).read_text(encoding="utf-8")))
            for made_folder in ("bare", "ct2"):
                shutil.rmtree(folder / made_folder)
        own = [[whole[of] - part[of] for whole, part in zip(ours, merging, strict=True)] for of in range(2)]
        under = [[each[of] for each in bare] for of in range(2)]
        whole = ratio((each[1] for each in ours), under[1])
        print(
            f"| {shape} | {quantization} | {ratio(own[0], under[0])} | {ratio(own[1], under[1])} | {whole} |",
            flush=True,
        )


def spent(*words: object) -> tuple[float, float]:
    """Seconds of the clock and of the processor that this interpreter takes with these words."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = python(*words).seconds
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
