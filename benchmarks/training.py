"""Training speed beside the stock libraries: both sides in one process, in turn, the ratio printed.

    python -m benchmarks.training --model FOLDER --data FILE [--steps 10] [--adapters 1] [--rounds 3]

The stock side is PEFT's LoRA under transformers' Seq2SeqTrainer with dynamic padding: the same rows in
the same order, the same settings. With --adapters N the bank trains N at once, and the stock side one
after the other.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from pathlib import Path

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--model", required=True)
parser.add_argument("--data", required=True, type=Path)
parser.add_argument("--steps", type=int, default=10)
parser.add_argument("--adapters", type=int, default=1)
parser.add_argument("--rounds", type=int, default=3)
parser.add_argument("--batch-size", type=int, default=5)
parser.add_argument("--dropout", type=float, default=0.1)
parser.add_argument("--dtype", default="float32")
parser.add_argument("--threads", type=int, default=0)
parser.add_argument("--device", default="auto")
parser.add_argument("--ours-only", action="store_true")
parser.add_argument("--profile", action="store_true")
options = parser.parse_args()
if options.threads:
    os.environ["OMP_NUM_THREADS"] = str(options.threads)

import torch  # noqa: E402
from peft import LoraConfig, get_peft_model  # noqa: E402
from transformers import AutoModelForSeq2SeqLM, DataCollatorForSeq2Seq  # noqa: E402

from loraloom.bank.objective import part_losses  # noqa: E402
from loraloom.bank.rows import training_rows  # noqa: E402
from loraloom.data.batches import Part, collate  # noqa: E402
from loraloom.data.split import split_examples  # noqa: E402
from loraloom.recipe import Recipe  # noqa: E402
from loraloom.training.optimizer import clip_gradients, gradient_norm, make_optimizer  # noqa: E402
from loraloom.training.state import Timetable  # noqa: E402
from loraloom.workflows.prepare import load_recipe_base, prepare  # noqa: E402

recipe = Recipe.model_validate(
    {
        "model_name_or_path": options.model,
        "data": {"train": options.data.name, "eval": 0},
        "lora": {"r": 16, "lora_alpha": 32, "lora_dropout": options.dropout},
        "training": {"per_device_train_batch_size": options.batch_size},
        "experiments": {f"a{number}": {"seed": number} for number in range(options.adapters)},
        "dtype": options.dtype,
        "device": options.device,
    }
)
split = split_examples(recipe.data, options.data.parent)
base = load_recipe_base(recipe, Path())
material = prepare(recipe, Path(), split, base)
bank = material.bank
timetables = {e.name: Timetable(e, len(material.train_set)) for e in material.experiments}
for experiment in material.experiments:
    bank.attach(experiment.name, experiment.lora, experiment.seed)
optimizers = {e.name: make_optimizer(bank.parameters(e.name), e.training) for e in material.experiments}


def synchronize() -> None:
    if base.device.type == "cuda":
        torch.cuda.synchronize()


def ours(first_step: int) -> float:
    """Seconds for all steps of all adapters."""
    begun = time.perf_counter()
    seeds = {e.name: e.seed for e in material.experiments}
    for step in range(first_step, first_step + options.steps):
        parts = []
        for name, timetable in timetables.items():
            rows = timetable.micro_batches(step % timetable.steps_per_epoch)[0]
            parts.append(Part(name, [material.train_set[row] for row in rows]))
        batch = collate(parts, pad_token_id=base.pad_token_id, start_token_id=base.start_token_id).to(
            base.device
        )
        with bank.rows(training_rows(batch, seeds=seeds, steps=dict.fromkeys(seeds, step), micro_batch=0)):
            losses = part_losses(base, batch) / torch.tensor(batch.num_labels, device=base.device)
            losses.sum().backward()
        for name, optimizer in optimizers.items():
            parameters = bank.parameters(name)
            clip_gradients(parameters, gradient_norm(parameters), 1.0)
            optimizer.step()
            optimizer.zero_grad()
    synchronize()
    return time.perf_counter() - begun


def make_stock() -> tuple[torch.nn.Module, torch.optim.Optimizer, DataCollatorForSeq2Seq]:
    model = AutoModelForSeq2SeqLM.from_pretrained(options.model, dtype=getattr(torch, options.dtype))
    config = LoraConfig(
        r=16,
        lora_alpha=32,
        lora_dropout=options.dropout,
        target_modules="all-linear",
        task_type="SEQ_2_SEQ_LM",
    )
    model = get_peft_model(model, config).to(base.device).train()
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return model, torch.optim.AdamW(parameters, lr=3e-4), DataCollatorForSeq2Seq(base.tokenizer, model=model)


def stock(first_step: int) -> float:
    """Seconds for all steps of all adapters, one adapter after the other (one is trained, N times)."""
    begun = time.perf_counter()
    for timetable in timetables.values():
        for step in range(first_step, first_step + options.steps):
            rows = timetable.micro_batches(step % timetable.steps_per_epoch)[0]
            features = [
                {
                    "input_ids": material.train_set[row].input_ids.tolist(),
                    "attention_mask": [1] * len(material.train_set[row].input_ids),
                    "labels": material.train_set[row].labels.tolist(),
                }
                for row in rows
            ]
            batch = stock_collator(features).to(base.device)
            stock_model(**batch).loss.backward()
            torch.nn.utils.clip_grad_norm_([p for p in stock_model.parameters() if p.requires_grad], 1.0)
            stock_optimizer.step()
            stock_optimizer.zero_grad()
    synchronize()
    return time.perf_counter() - begun


if __name__ == "__main__":
    ours(0)  # warm-up
    if options.profile:
        with torch.profiler.profile() as profile:
            ours(0)
        print(profile.key_averages().table(sort_by="self_cpu_time_total", row_limit=25))
    if not options.ours_only:
        stock_model, stock_optimizer, stock_collator = make_stock()
        stock(0)
    ratios = []
    for number in range(options.rounds):
        own = ours(number * options.steps)
        theirs = float("nan") if options.ours_only else stock(number * options.steps)
        ratios.append(theirs / own)
        per_step = 1e3 / options.steps / options.adapters
        print(
            f"round {number + 1}: ours {own * per_step:.1f} ms, stock {theirs * per_step:.1f} ms "
            f"per adapter and step, ratio {ratios[-1]:.2f}"
        )
    print(
        f"{options.adapters} adapters, batch {options.batch_size}, {options.dtype}, {base.device}, "
        f"{torch.get_num_threads()} threads: stock / ours = {statistics.median(ratios):.2f} (median), "
        f"{min(ratios):.2f} to {max(ratios):.2f}"
    )
