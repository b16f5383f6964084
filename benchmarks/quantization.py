"""What quantizing a base saves and costs: bytes of its weights, time of a training step, and the loss.

    python -m benchmarks.quantization [--rounds 5] [--rows 4] [--tokens 64]

Bytes and time are of a random model of flan-T5-base's shape in bfloat16, with one adapter of rank 16 on all
linears; the sides take turns, and ratios are of medians. The loss is the starter's own on its eval rows, in
float32. `python -m benchmarks.memory --quantizations nf4` compares the plan's prediction with the kernel's.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from transformers import T5Config, T5ForConditionalGeneration

from loraloom.bank.bank import AdapterBank
from loraloom.bank.objective import span_losses
from loraloom.base.loading import load_base
from loraloom.base.quantized_linear import weight_bytes
from loraloom.data.batches import SlotExamples, collate
from loraloom.data.encoding import EncodedExample
from loraloom.data.ownership import training_rows
from loraloom.data.splitting.split import split_examples
from loraloom.evaluate.loss import eval_losses
from loraloom.recipe import LoraSettings
from loraloom.recipe.reading import parse_recipe
from loraloom.session.encoded_rows import encode_rows
from tests.tiny import make_tokenizer

SIDES = ("none", "int8", "nf4", "torchao_int8")
FLAN_T5_BASE = {
    "d_model": 768,
    "d_kv": 64,
    "d_ff": 2048,
    "num_layers": 12,
    "num_heads": 12,
    "vocab_size": 32_128,
    "feed_forward_proj": "gated-gelu",
    "decoder_start_token_id": 0,
}
STARTER = "model_name_or_path: starter\ndata: {train: starter, eval: 100}\n"


def make_base(folder: Path) -> None:
    """Write a random model of flan-T5-base's shape."""
    torch.manual_seed(0)
    T5ForConditionalGeneration(T5Config(**FLAN_T5_BASE)).to(torch.bfloat16).save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)


class Side:
    """A base with an adapter, and the steps that it made.

    Args:
        folder: of the base.
        quantization: how it is quantized.
    """

    def __init__(self, folder: Path, quantization: str) -> None:
        self.base = load_base(str(folder), dtype="bfloat16", device="cpu", quantization=quantization)
        self.bank = AdapterBank(self.base)
        self.bank.attach("a", LoraSettings(r=16, lora_dropout=0.0), seed=1)
        self.seconds: list[float] = []

    def step(self, num_rows: int, num_tokens: int) -> None:
        """Compute the gradients of a batch."""
        ids = np.arange(3, 3 + num_tokens, dtype=np.int32)
        rows = [EncodedExample(ids, ids)] * num_rows
        batch = collate([SlotExamples("a", rows)], self.base.layout)
        started = time.perf_counter()
        with self.bank.rows(training_rows(batch, seeds={"a": 0}, steps={"a": 0}, micro_batch=0)):
            span_losses(self.base, batch).sum().backward()
        self.seconds.append(time.perf_counter() - started)
        for parameter in self.bank.parameters("a"):
            parameter.grad = None


def starter_loss(quantization: str) -> float:
    """Return the starter's own loss on its eval rows."""
    recipe = parse_recipe(STARTER, name="starter")
    base = load_base("starter", dtype="float32", device="cpu", quantization=quantization)
    rows = encode_rows(split_examples(recipe.data).eval, base, recipe)
    return eval_losses(AdapterBank(base), [None], rows, batch_size=20)[None]


def main() -> None:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=64)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        make_base(Path(temporary))
        sides = {name: Side(Path(temporary), name) for name in SIDES}
        for number in range(options.rounds + 1):  # the first one compiles kernels
            for side in sides.values():
                side.step(options.rows, options.tokens)
                if number == 0:
                    side.seconds.clear()
    plain = sides["none"]
    print("| quantization | weights, MiB | to bfloat16 | step, to bfloat16 | the starter's loss |")
    print("|---|---|---|---|---|")
    for name, side in sides.items():
        own, theirs = weight_bytes(side.base.model), weight_bytes(plain.base.model)
        ratio = statistics.median(side.seconds) / statistics.median(plain.seconds)
        print(
            f"| {name} | {own / 2**20:.0f} | {own / theirs:.2f} | {ratio:.2f} | {starter_loss(name):.4f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
