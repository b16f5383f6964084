"""One training by PEFT and the stock Seq2SeqTrainer, with our initial A and B and our order of rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from peft import LoraConfig, get_peft_model
from torch import Tensor
from torch.utils.data import Sampler
from transformers import DataCollatorForSeq2Seq, Seq2SeqTrainer, Seq2SeqTrainingArguments

from loraloom.bank.bank import AdapterBank
from loraloom.base.loading import Base
from loraloom.base.targets import other_linears
from loraloom.data.encoding import EncodedSet
from loraloom.data.timetable import Timetable
from loraloom.recipe import Experiment
from tests.parity.rig import TrainedRun, stock_model


class OurOrder(Sampler[int]):
    """The rows in the order of our timetable, one epoch after the other."""

    def __init__(self, timetable: Timetable) -> None:
        self.timetable = timetable
        self.epoch = 0

    def __len__(self) -> int:
        return self.timetable.num_examples

    def __iter__(self) -> Iterator[int]:
        steps = self.timetable.steps_per_epoch
        first, self.epoch = self.epoch * steps, self.epoch + 1
        for step in range(first, first + steps):
            for micro_batch in self.timetable.micro_batches(step):
                yield from micro_batch


class StockTrainer(Seq2SeqTrainer):
    """The stock Trainer; only the order of its rows is given to it."""

    order: Sampler[int]

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        return self.order


# A training as the stock Trainer could do it: 20 steps of 14 rows, the last of each epoch smaller.
WITHOUT_DROPOUT: dict[str, Any] = {
    "lora": {"r": 4, "lora_alpha": 16, "lora_dropout": 0.0},
    "learning_rate": 3e-3,
    "warmup_steps": 0.2,
    "weight_decay": 0.1,
    "max_grad_norm": 0.5,
    "per_device_train_batch_size": 3,
    "num_train_epochs": 4,
}


def token_mean(outputs: Any, labels: Tensor, num_items_in_batch: Tensor | None = None) -> Tensor:
    """The loss that transformers' causal models use under accumulation: a mean over all its tokens."""
    total = F.cross_entropy(
        outputs.logits.flatten(0, 1), labels.flatten(), reduction="sum", ignore_index=-100
    )
    assert num_items_in_batch is not None
    return total / num_items_in_batch


def train_stock(
    folder: Path,
    base: Base,
    each: Experiment,
    rows: EncodedSet,
    initial: dict[str, Tensor],
    out: Path,
    *,
    by_token: bool = False,
    config: Mapping[str, Any] | None = None,
    make_optimizer: Callable[[Any], Any] | None = None,
    stock: Mapping[str, Any] | None = None,
) -> tuple[list[float], dict[str, Tensor]]:
    """Losses of each step, and the adapter at the end.

    Args:
        config: more of PEFT's LoraConfig.
        make_optimizer: makes it for the model, if not the Trainer.
        stock: more for transformers' `from_pretrained`.
    """
    lora, training = each.lora, each.training
    model = get_peft_model(
        stock_model(folder, **(stock or {})),
        LoraConfig(
            r=lora.r,
            lora_alpha=int(lora.lora_alpha),
            lora_dropout=0.0,
            exclude_modules=[name for name in other_linears(base.model, base.family) if "vision" in name]
            or None,
            target_modules="all-linear" if lora.target_modules == ["all-linear"] else lora.target_modules,
            task_type="SEQ_2_SEQ_LM",
            **(config or {}),
        ),
    )
    # T5 takes **kwargs but does not scale its loss by them, which the Trainer would rely upon:
    # accumulation over 4 micro-batches logged 80.0 where 1 logged 23.3 (see findings of 5.23).
    model.accepts_loss_kwargs = False
    model.base_model.model.accepts_loss_kwargs = False
    own = {
        _in_bank(name): parameter for name, parameter in model.named_parameters() if parameter.requires_grad
    }
    assert own.keys() == {name for name in initial if "twin" not in name}
    for name, parameter in own.items():
        parameter.data.copy_(initial[name])
    trainer = StockTrainer(
        model=model,
        args=Seq2SeqTrainingArguments(
            output_dir=str(out),
            use_cpu=True,
            report_to=[],
            disable_tqdm=True,
            logging_steps=1,
            save_strategy="no",
            remove_unused_columns=False,
            learning_rate=training.learning_rate,
            lr_scheduler_type=training.lr_scheduler_type,
            warmup_steps=training.warmup_steps,
            weight_decay=training.weight_decay,
            max_grad_norm=training.max_grad_norm,
            per_device_train_batch_size=training.per_device_train_batch_size,
            gradient_accumulation_steps=training.gradient_accumulation_steps,
            label_smoothing_factor=training.label_smoothing_factor,
            num_train_epochs=training.num_train_epochs,
            max_steps=training.max_steps or -1,
        ),
        train_dataset=[{"input_ids": row.input_ids.tolist(), "labels": row.labels.tolist()} for row in rows],
        data_collator=DataCollatorForSeq2Seq(base.tokenizer, model=model),
        compute_loss_func=token_mean if by_token else None,
        optimizers=(make_optimizer(model), None) if make_optimizer else (None, None),
    )
    trainer.order = OurOrder(Timetable(each, len(rows)))
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return losses, {name: parameter.detach() for name, parameter in own.items()}


def _in_bank(name: str) -> str:
    """The bank's name of a parameter of PEFT's model."""
    if ".modules_to_save." in name:
        return name.removeprefix("base_model.model.").replace(".modules_to_save.default.", ".")
    bare = name.removeprefix("base_model.model.").removesuffix(".weight").removesuffix(".default")
    return bare.replace(".lora_B.default.bias", ".lora_B_bias").replace(".token_adapter.", ".")


def fresh_tensors(base: Base, each: Experiment) -> dict[str, Tensor]:
    bank = AdapterBank(base)
    bank.attach(each.name, each.lora, each.seed)
    tensors = {name: tensor.clone() for name, tensor in bank.tensors(each.name).items()}
    bank.drop(each.name)
    return tensors


def assert_same_as_stock(
    ours: TrainedRun,
    base: Base,
    folder: Path,
    each: Experiment,
    rows: EncodedSet,
    out: Path,
    *,
    weights_within: float = 1e-4,
    **options: Any,
) -> None:
    """Losses at 1e-5 relative over every step, weights at a share of each tensor's largest element."""
    initial = fresh_tensors(base, each)
    losses, weights = train_stock(folder, base, each, rows, initial, out, **options)
    assert len(losses) == 20
    assert ours.losses(each.name) == pytest.approx(losses, rel=1e-5)
    assert max(ours.column(each.name, "grad_norm")) > each.training.max_grad_norm  # clipping took part
    for name, tensor in ours.adapter(each.name).items():
        if "twin" in name:
            assert torch.equal(tensor, initial[name])
            continue
        largest = float(weights[name].abs().max())
        is_frozen = each.lora.use_lorafa and name.endswith("lora_A")
        assert is_frozen or float((weights[name] - initial[name]).abs().max()) > 1e-3
        torch.testing.assert_close(
            tensor,
            weights[name],
            rtol=0,
            atol=weights_within * largest,
            msg=lambda text, n=name: f"{n}: {text}",
        )
