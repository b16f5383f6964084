"""The two sides of a step: that of a bank, and PEFT's under transformers; on a processor or a GPU."""

from __future__ import annotations

import copy
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import peft
import torch
import transformers
from peft import LoraConfig, get_peft_model
from transformers import DataCollatorForSeq2Seq, MT5Config, MT5ForConditionalGeneration

from loraloom.architectures.families import FAMILIES
from loraloom.bank.bank import AdapterBank
from loraloom.base.determinism import freeze
from loraloom.base.fused_activations import fuse_activations
from loraloom.base.loading import Base
from loraloom.base.row_attention import use_row_attention
from loraloom.data.encoding import EncodedSet
from loraloom.recipe import Experiment, GenerationSettings, LoraSettings, TrainingSettings
from loraloom.run.documents.choice import Choice
from loraloom.run.events import Event, TrainStep
from loraloom.run.folder import create_run
from loraloom.training.engine import Engine
from loraloom.training.loop import take_step
from loraloom.training.setup import Setup
from loraloom.training.state import TrainingState
from loraloom.training.static_passes import StaticPasses
from tests.tiny import make_tokenizer

BATCH = 5
RANK, ALPHA, DROPOUT = 16, 32, 0.05
RATE, MAX_NORM = 1e-4, 1.0


class Machine:
    """Where it runs, in which dtype, and on a model of which shape.

    Args:
        device: of both sides.
        dtype: of the base.
        shape: what `MT5Config` is told.
        clock: seconds, of the wall or of this process's processor time.
    """

    def __init__(
        self,
        device: torch.device,
        dtype: torch.dtype,
        shape: Mapping[str, Any],
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.begun = time.perf_counter()
        self.device, self.dtype, self.shape, self.clock = device, dtype, dict(shape), clock

    @property
    def is_gpu(self) -> bool:
        """Whether a step must be waited for."""
        return self.device.type == "cuda"

    def facts(self) -> dict[str, Any]:
        """For the JSON."""
        name = torch.cuda.get_device_name() if self.is_gpu else platform.processor() or platform.machine()
        versions = {"python": sys.version.split()[0], "torch": torch.__version__}
        versions |= {"transformers": transformers.__version__, "peft": peft.__version__}
        seconds = round(time.perf_counter() - self.begun, 1)
        return {"device": name, "shape": self.shape, "dtype": str(self.dtype), **versions, "seconds": seconds}

    def wait(self) -> None:
        """Until the device has done what it was given."""
        if self.is_gpu:
            torch.cuda.synchronize()

    def note(self, text: str) -> None:
        """How far it came, on stderr."""
        print(f"[{time.perf_counter() - self.begun:6.1f} s] {text}", file=sys.stderr, flush=True)


def random_model(machine: Machine) -> MT5ForConditionalGeneration:
    """Make a model of the shape on its device, with random weights and an untied head."""
    torch.manual_seed(0)
    default = torch.get_default_dtype()
    torch.set_default_dtype(machine.dtype)
    try:
        with machine.device:
            config = MT5Config(**{**machine.shape, "dropout_rate": 0.0})
            model = MT5ForConditionalGeneration(config)
            # As large as a trained model's states and logits, or bfloat16 would be compared on noise.
            head = torch.randn(config.vocab_size, config.d_model) * config.d_model**-0.5
    finally:
        torch.set_default_dtype(default)
    model.lm_head.weight = torch.nn.Parameter(head)
    model.config.tie_word_embeddings = False
    return model.to(machine.device)


def make_base(model: Any, machine: Machine) -> Base:
    """What `load_base` makes of such a model, without the way through files."""
    family = FAMILIES["mt5"]
    freeze(model, family)
    fuse_activations(model)
    use_row_attention(model)
    family.prepare(model)
    return Base(
        name="random",
        model=model,
        tokenizer=make_tokenizer(),
        family=family,
        head_is_tied=False,
        model_dropout=0.0,
        fingerprint="",
        tokenizer_fingerprint="",
        choices={"device": Choice(machine.device.type, ""), "dtype": Choice(str(machine.dtype), "")},
    )


class Ours:
    """Adapters of one bank, stepped as a training steps them.

    Args:
        machine, base: where, and on what.
        rows: to train on.
        adapters, batch, dropout: how many, how many rows of each in a step, and LoRA's dropout.
        is_static: compute passes of fixed shapes on a processor too.
    """

    def __init__(
        self,
        machine: Machine,
        base: Base,
        rows: EncodedSet,
        adapters: int,
        batch: int,
        dropout: float,
        is_static: bool = False,
    ) -> None:
        lora = LoraSettings(r=RANK, lora_alpha=ALPHA, lora_dropout=dropout, target_modules="all-linear")
        training = TrainingSettings(
            cuda_graphs=True,
            per_device_train_batch_size=batch,
            learning_rate=RATE,
            max_grad_norm=MAX_NORM,
            lr_scheduler_type="constant",
            max_steps=1_000_000,
            eval_strategy="no",
            save_strategy="no",
        )
        experiments = [Experiment(f"a{n}", f"a{n}", lora, training, seed=n) for n in range(adapters)]
        names = [each.name for each in experiments]
        self.machine, self.adapters, self.batch = machine, adapters, batch
        self._folder = tempfile.TemporaryDirectory()
        self.bank = AdapterBank(base)
        self.setup = Setup(
            bank=self.bank,
            experiments=experiments,
            waves=[names],
            initial={},
            train_set=rows,
            eval_set=EncodedSet([], []),
            shared=training,
            generation=GenerationSettings(),
            run=create_run(Path(self._folder.name) / "run"),
        )
        if is_static and not machine.is_gpu:  # what a GPU computes, by the plain versions of its kernels
            self.setup.__dict__["static_passes"] = StaticPasses(self.bank, records=False)
        self.engine = Engine(self.setup, TrainingState.at_start(names), self._report)
        self.events: list[Event] = []
        with self.bank.hold():
            self.engine.trainees = [self.engine.join(name) for name in names]

    def step(self) -> None:
        """One step of all."""
        with self.bank.hold():
            take_step(self.engine)

    def _report(self, event: Event) -> None:
        self.events = [*self.events[-self.adapters :], event]

    @property
    def last(self) -> tuple[float, float]:
        """Loss and gradient norm of the first adapter's last step."""
        steps = [event for event in self.events if isinstance(event, TrainStep)]
        own = [step for step in steps if step.experiment == "a0"][-1]
        return own.loss, own.grad_norm

    def close(self) -> None:
        """Take the adapters off the base."""
        if self.setup.static_passes is not None:
            self.setup.static_passes.clear()
        self.engine.trainees.clear()
        for slot in self.bank.slots:
            self.bank.drop(slot)
        self._folder.cleanup()


class Stock:
    """A transformers model under PEFT, one adapter."""

    def __init__(
        self,
        machine: Machine,
        model: Any,
        rows: EncodedSet,
        batch: int,
        dropout: float,
        autocast: bool = False,
    ) -> None:
        self.machine, self.rows, self.batch, self.adapters = machine, rows, batch, 1
        config = LoraConfig(
            r=RANK,
            lora_alpha=ALPHA,
            lora_dropout=dropout,
            target_modules="all-linear",
            task_type="SEQ_2_SEQ_LM",
        )
        self.model = get_peft_model(model, config).train()
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=RATE, weight_decay=0.0, fused=True)
        self.collator = DataCollatorForSeq2Seq(make_tokenizer(), model=model)
        self.autocast = autocast
        self.last = (0.0, 0.0)
        self._taken = 0

    def step(self) -> None:
        """One step, as the Trainer takes it; its loss is read at the end, as the Trainer does to log it."""
        first = self._taken * self.batch % len(self.rows)
        self.take([self.rows[first + number] for number in range(self.batch)])

    def take(self, examples: Sequence[Any]) -> None:
        """One step on these rows."""
        self._taken += 1
        features = [
            {
                "input_ids": example.input_ids.tolist(),
                "attention_mask": [1] * len(example.input_ids),
                "labels": example.labels.tolist(),
            }
            for example in examples
        ]
        batch = self.collator(features).to(self.machine.device)
        kind = self.machine.device.type
        with torch.autocast(kind, torch.bfloat16) if self.autocast else nullcontext():
            loss = self.model(**batch).loss
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, MAX_NORM)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.last = loss.item(), float(norm)

    def close(self) -> None:
        """Restore the model."""
        self.model.unload()


def check_equal(
    machine: Machine, base: Base, model: Any, rows: EncodedSet, *, is_static: bool = False
) -> dict[str, Any]:
    """Three steps of both sides from the same A and B, without dropout: losses and norms must agree.

    In float32 within 1e-4. bfloat16 rounds differently on both sides, and much of a trained model's gradient
    is rounding on either. So there losses must agree within 2 %, and our norms must be on average within 5 %
    of stock's in float32, or at most twice as far from them as stock's own in bfloat16.
    """
    ours = Ours(machine, base, rows, 1, BATCH, 0.0, is_static)
    sides = {"stock": Stock(machine, model, rows, BATCH, dropout=0.0)}
    if machine.dtype == torch.bfloat16:
        sides["float32"] = Stock(machine, copy.deepcopy(model).float(), rows, BATCH, dropout=0.0)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, tensor in ours.bank.tensors("a0").items():
            if name.endswith("lora_B"):  # zero at the start, which would leave A without a gradient
                tensor.copy_(torch.randn(tensor.shape, generator=generator) * 1e-3)
            for side in sides.values():
                own = dict(side.model.named_parameters())
                own[f"base_model.model.{name}.default.weight"].copy_(tensor)
    found: dict[str, Any] = {name: [] for name in ("ours", *sides)}
    for step in range(3):
        wanted = ours.engine.trainees[0].timetable.micro_batches(step)[0]
        ours.step()
        found["ours"].append(ours.last)
        for name, side in sides.items():
            side.take([rows[row] for row in wanted])
            found[name].append(side.last)
    ours.close()
    for side in sides.values():
        side.close()
    if not _are_equal(found):
        raise SystemExit(f"the two sides do not compute the same: {found}")
    return found


def _are_equal(found: Mapping[str, Sequence[tuple[float, float]]]) -> bool:
    """Compare losses and gradient norms of some steps; those in float32 are given if the others are not."""
    exact = found.get("float32")
    tolerance = 1e-4 if exact is None else 2e-2
    losses, norms = ({name: [each[n] for each in own] for name, own in found.items()} for n in (0, 1))
    are_equal = all(
        _error([a], [b]) <= tolerance for a, b in zip(losses["ours"], losses["stock"], strict=True)
    )
    if exact is None:
        return are_equal and _error(norms["ours"], norms["stock"]) <= tolerance
    wanted = norms["float32"]
    return are_equal and _error(norms["ours"], wanted) <= max(5e-2, 2 * _error(norms["stock"], wanted))


def _error(values: Sequence[float], wanted: Sequence[float]) -> float:
    """Return the mean relative error."""
    return statistics.fmean(abs(a - b) / abs(b) for a, b in zip(values, wanted, strict=True))
