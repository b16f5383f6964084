"""Training speed beside the stock libraries: both sides in one process, in turn, the ratio printed.

    python -m benchmarks.training [--model starter] [--data starter] [--steps 10] [--adapters 1] [--rounds 3]

The stock side is a transformers model under PEFT's LoRA in a plain loop with dynamic padding: what
Seq2SeqTrainer does in a step, without what it does around it. The same rows in the same order, the same
settings. With --adapters N the bank trains N at once, and the stock side one after the other.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForSeq2SeqLM, DataCollatorForSeq2Seq

from benchmarks.rounds import options_of, ratio
from loraloom.bank.objective import part_losses
from loraloom.bank.ownership import training_rows
from loraloom.base.loading import Base
from loraloom.data.batches import Part, collate
from loraloom.data.splitting.split import split_examples
from loraloom.recipe import Recipe
from loraloom.session.material import Material, load_recipe_base, prepare
from loraloom.starter import model_folder
from loraloom.training.optimizer import make_optimizer
from loraloom.training.step import clip_gradients, gradient_norm
from loraloom.training.timetable import Timetable

MAX_NORM = 1.0


def main() -> None:
    """Measure and print."""
    parser = options_of(__doc__)
    parser.add_argument("--model", default="starter")
    parser.add_argument("--data", default="starter")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--adapters", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=5)
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--threads", type=int, help="by default torch's own number")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--ours-only", action="store_true")
    parser.add_argument(
        "--profile", action="store_true", help="print which operations our side's time goes to"
    )
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    recipe = _recipe(options)
    material = prepare(recipe, split_examples(recipe.data), load_recipe_base(recipe))
    sides: dict[str, Ours | Stock] = {"ours": Ours(material)}
    if not options.ours_only:
        sides["stock"] = Stock(material, options)
    for side in sides.values():
        _seconds(side, 0, options.steps)  # warm-up
    if options.profile:
        with torch.profiler.profile() as profile:
            _seconds(sides["ours"], 0, options.steps)
        print(profile.key_averages().table(sort_by="self_cpu_time_total", row_limit=25))
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(options.rounds):
        for name, side in sides.items():
            seconds[name].append(_seconds(side, number * options.steps, options.steps))
    _report(material.base, options, seconds)


def _recipe(options: argparse.Namespace) -> Recipe:
    return Recipe.model_validate(
        {
            "model_name_or_path": options.model,
            "data": {"train": options.data, "eval": 0},
            "lora": {"r": 16, "lora_alpha": 32, "lora_dropout": options.dropout},
            "training": {"per_device_train_batch_size": options.batch_size},
            "experiments": {f"a{number}": {"seed": number} for number in range(options.adapters)},
            "dtype": options.dtype,
            "device": options.device,
        }
    )


def _rows(timetable: Timetable, step: int) -> list[int]:
    """Of a step of a training that never ends."""
    return timetable.micro_batches(step % timetable.steps_per_epoch)[0]


class Ours:
    """Every experiment an adapter of one bank."""

    def __init__(self, material: Material):
        self.material = material
        self.seeds = {each.name: each.seed for each in material.experiments}
        self.timetables = {
            each.name: Timetable(each, len(material.train_set)) for each in material.experiments
        }
        for each in material.experiments:
            material.bank.attach(each.name, each.lora, each.seed)
        self.optimizers = {
            each.name: make_optimizer(material.bank.parameter_groups(each.name), each.training)
            for each in material.experiments
        }

    def take(self, first: int, num_steps: int) -> None:
        """So many steps of all adapters."""
        for step in range(first, first + num_steps):
            self._step(step)

    def _step(self, step: int) -> None:
        base, bank, train_set = self.material.base, self.material.bank, self.material.train_set
        parts = [
            Part(name, [train_set[row] for row in _rows(timetable, step)])
            for name, timetable in self.timetables.items()
        ]
        batch = collate(parts, base.layout)
        batch = batch.to(base.device)
        steps = dict.fromkeys(self.seeds, step)
        with bank.rows(training_rows(batch, seeds=self.seeds, steps=steps, micro_batch=0)):
            losses = part_losses(base, batch) / torch.tensor(batch.num_labels, device=base.device)
            losses.sum().backward()
        for name, optimizer in self.optimizers.items():
            parameters = bank.parameters(name)
            clip_gradients(parameters, gradient_norm(parameters), MAX_NORM)
            optimizer.step()
            optimizer.zero_grad()


class Stock:
    """One adapter under PEFT, which takes the steps of each experiment in turn."""

    def __init__(self, material: Material, options: argparse.Namespace):
        self.material = material
        self.timetables = [Timetable(each, len(material.train_set)) for each in material.experiments]
        folder = model_folder() if options.model == "starter" else options.model
        model = AutoModelForSeq2SeqLM.from_pretrained(folder, dtype=getattr(torch, options.dtype))
        config = LoraConfig(
            r=16,
            lora_alpha=32,
            lora_dropout=options.dropout,
            target_modules="all-linear",
            task_type="SEQ_2_SEQ_LM",
        )
        self.model = get_peft_model(model, config).to(material.base.device).train()
        self.parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=3e-4, fused=True)  # the Trainer's default
        self.collator = DataCollatorForSeq2Seq(material.base.tokenizer, model=model)

    def take(self, first: int, num_steps: int) -> None:
        """So many steps of each experiment, one experiment after the other."""
        for timetable in self.timetables:
            for step in range(first, first + num_steps):
                self._step(_rows(timetable, step))

    def _step(self, rows: list[int]) -> None:
        examples = [self.material.train_set[row] for row in rows]
        features = [
            {
                "input_ids": example.input_ids.tolist(),
                "attention_mask": [1] * len(example.input_ids),
                "labels": example.labels.tolist(),
            }
            for example in examples
        ]
        batch = self.collator(features).to(self.material.base.device)
        self.model(**batch).loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, MAX_NORM)
        self.optimizer.step()
        self.optimizer.zero_grad()


def _seconds(side: Ours | Stock, first: int, num_steps: int) -> float:
    """For so many steps of all adapters."""
    begun = time.perf_counter()
    side.take(first, num_steps)
    if side.material.base.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begun


def _report(base: Base, options: argparse.Namespace, seconds: dict[str, list[float]]) -> None:
    print(
        f"{options.adapters} adapters, batch {options.batch_size}, {options.dtype}, {base.device}, "
        f"{torch.get_num_threads()} threads"
    )
    for name, own in seconds.items():
        each = 1e3 * statistics.median(own) / options.steps / options.adapters
        print(f"{name:6}{each:8.1f} ms per adapter and step (median)")
    if "stock" in seconds:
        print(f"stock / ours: {ratio(seconds['stock'], seconds['ours'])}")


if __name__ == "__main__":
    main()
