"""Merging into a base that is larger than the machine's memory, as a user would start it.

    python -m benchmarks.merge_larger [--layers 24] [--d-model 4096] [--scratch FOLDER]

By default the base has mt0-xxl's shape in bfloat16. Its files are sparse: of each tensor, the first values
are random and the rest are zeros that take no space, but the merged folder takes all of it (24 GiB). The
adapter has rank 16 on all linears, with a random B. Printed are the machine's memory, what merging in memory
is predicted to take, the peak of `loraloom merge` and all that it starts (what the kernel cannot drop), its
time, and the figures in the folder's card, which say how it was merged.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path

import psutil
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import MT5Config, MT5ForConditionalGeneration

from benchmarks.exports import MAIN, peak_of
from benchmarks.rounds import options_of
from loraloom.export.merge_way import predicted_bytes
from loraloom.export.tensor_file import header
from tests.tiny import make_folder

NUM_FILES, RANDOM_VALUES, RANK = 8, 2048, 16


def main() -> None:
    """Make, merge and print."""
    parser = options_of(__doc__)
    parser.add_argument("--layers", type=int, default=24)
    parser.add_argument("--d-model", type=int, default=4096)
    parser.add_argument("--scratch", type=Path, help="a folder for the models; by default the system's")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.scratch) as name:
        folder = Path(name)
        num_weights, largest = make(folder, options.layers, options.d_model)
        memory = psutil.virtual_memory()
        predicted = predicted_bytes(str(folder / "base")) or 0
        print(
            f"{num_weights / 1e9:.1f} billion weights, {2 * num_weights / 2**30:.1f} GiB in bfloat16; the "
            f"machine has {memory.total / 2**30:.1f} GiB, {memory.available / 2**30:.1f} GiB available; in "
            f"memory, merging is predicted to take {predicted / 2**30:.1f} GiB; the largest linear has "
            f"{4 * largest / 2**20:.0f} MiB in float32, the adapter "
            f"{(folder / 'adapter' / 'adapter_model.safetensors').stat().st_size / 2**20:.0f} MiB",
            flush=True,
        )
        given = ["--base", folder / "base", "--adapter", folder / "adapter"]
        begun = time.perf_counter()
        peak, _ = peak_of(["-c", MAIN, "merge", *given, folder / "merged"])
        seconds = time.perf_counter() - begun
        card = (folder / "merged" / "README.md").read_text(encoding="utf-8")
        print(f"peak {peak / 2**20:,.0f} MiB, {seconds:.0f} s")
        print(card[card.index("| figure") :].partition("\n\n")[0])


def make(folder: Path, num_layers: int, d_model: int) -> tuple[int, int]:
    """Make `base` and `adapter`.

    Returns:
        The weights of the base, and those of its largest linear.
    """
    torch.manual_seed(0)
    make_folder(folder / "base", "mt5")  # for its tokenizer
    config = MT5Config(
        d_model=d_model,
        d_ff=d_model * 5 // 2,
        num_layers=num_layers,
        num_heads=d_model // 64,
        d_kv=64,
        vocab_size=250_112,
        feed_forward_proj="gated-gelu",
        decoder_start_token_id=0,
    )
    with torch.device("meta"):
        model = MT5ForConditionalGeneration(config)
        model.lm_head.weight = nn.Parameter(torch.empty_like(model.shared.weight))
    config.tie_word_embeddings = False
    config.dtype = "bfloat16"
    config.architectures = ["MT5ForConditionalGeneration"]
    config.save_pretrained(folder / "base")
    (folder / "base" / "model.safetensors").unlink()
    shared = {"encoder.embed_tokens.weight", "decoder.embed_tokens.weight"}
    tensors = {name: tensor for name, tensor in model.state_dict().items() if name not in shared}
    write_sparse(folder / "base", tensors)
    linears = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and name != "lm_head"
    }
    write_adapter(folder / "adapter", linears)
    largest = max(linear.weight.numel() for linear in linears.values())
    return sum(tensor.numel() for tensor in tensors.values()), largest


def write_sparse(folder: Path, tensors: dict[str, Tensor]) -> None:
    """Write the files of a base, of which only the first values of each tensor take space."""
    names = list(tensors)
    weight_map: dict[str, str] = {}
    for number in range(NUM_FILES):
        own = {name: (torch.bfloat16, tensors[name].shape) for name in names[number::NUM_FILES]}
        file = folder / f"model-{number + 1:05d}-of-{NUM_FILES:05d}.safetensors"
        weight_map |= dict.fromkeys(own, file.name)
        with file.open("wb") as opened:
            opened.write(header(own))
            end = opened.tell()
            for name in own:
                opened.seek(end)
                values = torch.randn(min(RANDOM_VALUES, tensors[name].numel())) * 0.05
                opened.write(values.bfloat16().view(torch.uint8).numpy().tobytes())
                end += 2 * tensors[name].numel()
            opened.truncate(end)
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")


def write_adapter(folder: Path, linears: dict[str, nn.Linear]) -> None:
    """Write an adapter on all linears, as PEFT does."""
    folder.mkdir()
    tensors = {}
    for name, linear in linears.items():
        ends = {"A": (RANK, linear.in_features), "B": (linear.out_features, RANK)}
        for end, shape in ends.items():
            tensors[f"base_model.model.{name}.lora_{end}.weight"] = torch.randn(shape) * 0.01
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config = {
        "peft_type": "LORA",
        "task_type": "SEQ_2_SEQ_LM",
        "r": RANK,
        "lora_alpha": 32,
        "target_modules": sorted({name.rpartition(".")[2] for name in linears}),
    }
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")


if __name__ == "__main__":
    main()
