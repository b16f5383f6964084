"""What the parity tests share: random rows, adapters that say something, one pass, one training."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForSeq2SeqLM, GenerationConfig

from loraloom.bank.bank import AdapterBank
from loraloom.bank.linear import BankLinear
from loraloom.bank.objective import span_losses
from loraloom.bank.token_head import TiedHead
from loraloom.bank.token_rows import BankEmbedding, row_shapes
from loraloom.bank.trained_norms import BankNorm
from loraloom.base.loading import Base, load_base
from loraloom.base.recomputation import recompute_activations
from loraloom.data.batches import Batch, SlotExamples, collate
from loraloom.data.encoding import EncodedExample, EncodedSet
from loraloom.data.ownership import training_rows
from loraloom.recipe import Experiment, GenerationSettings, LoraSettings, TrainingSettings
from loraloom.run.events import Event
from loraloom.run.folder import Run, create_run
from loraloom.training.loop import train
from loraloom.training.setup import Setup
from loraloom.training.signals import StopRequest
from loraloom.training.state import TrainingState

EOS = 1
FIRST_TOKEN = 3  # after <pad>, </s>, <unk>
NO_ROWS = EncodedSet([], [])


def random_rows(
    num: int, seed: int = 0, *, target_len: int | None = None, vocabulary: int = 400, eos: int = EOS
) -> EncodedSet:
    """Rows of mixed lengths; the first source and the first target are nothing but an EOS.

    Args:
        target_len: the same for every target, EOS included; mixed otherwise.
    """
    generator = torch.Generator().manual_seed(seed)

    def tokens(length: int) -> list[int]:
        drawn = torch.randint(FIRST_TOKEN, vocabulary, (length - 1,), generator=generator)
        return [*drawn.tolist(), eos]

    # squared: many short rows and a few long ones, so that packing lays several in one
    lengths = (1 + 13 * torch.rand(num, 2, generator=generator).square()).long().tolist()
    lengths[0] = [1, 1]
    return EncodedSet(
        [tokens(source) for source, _ in lengths],
        [tokens(target if target_len is None else target_len) for _, target in lengths],
    )


def speaking_tensors(
    bank: AdapterBank, settings: LoraSettings, seed: int, strength: float = 0.1
) -> dict[str, Tensor]:
    """A and B (and magnitudes) for every target, all random, so that the adapter changes the answers."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for target in bank.targets_of(settings):
        out_features, in_features = target.module.weight.shape
        tensors[f"{target.name}.lora_A"] = (
            torch.randn(settings.at(target.name).r, in_features, generator=generator) * strength
        )
        tensors[f"{target.name}.lora_B"] = (
            torch.randn(out_features, settings.at(target.name).r, generator=generator) * strength
        )
        if settings.init_lora_weights is not True:
            for end in ("A", "B"):
                like = tensors[f"{target.name}.lora_{end}"]
                tensors[f"{target.name}.twin_{end}"] = torch.randn(like.shape, generator=generator) * strength
        if settings.lora_bias:
            tensors[f"{target.name}.lora_B_bias"] = torch.randn(out_features, generator=generator) * strength
        if settings.use_dora:
            lengths = target.module.weight.float().norm(dim=1)
            drawn = torch.randn(out_features, generator=generator)
            tensors[f"{target.name}.lora_magnitude_vector"] = lengths * (1 + strength * drawn)
    for name, shape in row_shapes(bank.base, settings).items():
        rows = bank.beside.tables.weight[torch.tensor(settings.trainable_token_indices)].float()
        tensors[name] = rows + torch.randn(shape, generator=generator) * strength * rows.std()
    for path, norm in bank.beside.norms.matching(settings).items():
        for end, vector in norm.named_parameters():
            drawn = torch.randn(vector.shape, generator=generator)
            tensors[f"{path}.{end}"] = vector.detach().float() + strength * drawn
    return tensors


def attach_speaking(
    bank: AdapterBank, slot: str, seed: int, strength: float = 0.1, **lora: Any
) -> LoraSettings:
    """Attach an adapter that says something."""
    settings = LoraSettings(**lora)
    bank.attach(slot, settings, seed, speaking_tensors(bank, settings, seed, strength))
    return settings


def batch_of(base: Base, slots: Mapping[str | None, Sequence[EncodedExample]], **options: Any) -> Batch:
    """A batch of some rows for each slot."""
    return collate(
        [SlotExamples(slot, rows) for slot, rows in slots.items()],
        base.layout,
        **options,
    )


def losses_and_gradients(
    bank: AdapterBank, batch: Batch, *, seed: int = 7
) -> tuple[dict[str, float], dict[str, dict[str, Tensor]]]:
    """Each slot's mean loss and gradients, from one pass."""
    slots = [slot for slot in batch.slots if slot is not None]
    for slot in slots:
        for parameter in bank.parameters(slot):
            parameter.grad = None
    rows = training_rows(
        batch, seeds=dict.fromkeys(slots, seed), steps=dict.fromkeys(slots, 3), micro_batch=0
    )
    with bank.rows(rows):
        losses = span_losses(bank.base, batch) / torch.tensor(batch.num_labels)
        losses.sum().backward()
    return dict(zip(slots, losses.tolist(), strict=True)), {slot: gradients(bank, slot) for slot in slots}


def gradients(bank: AdapterBank, slot: str) -> dict[str, Tensor]:
    """The gradients that lie on an adapter now, by the tensor's name."""
    named = zip(bank.tensors(slot), bank.parameters(slot), strict=True)
    return {name: torch.zeros_like(p) if p.grad is None else p.grad.clone() for name, p in named}


def assert_same_gradients(
    actual: Mapping[str, Tensor], expected: Mapping[str, Tensor], tolerance: float = 1e-5
) -> None:
    """Every element within `tolerance`, relative to itself or to the largest of its own tensor.

    Purely relative would not do: an element of a gradient is a sum over tokens whose terms may
    cancel, and its rounding error is that of the terms.
    """
    assert actual.keys() == expected.keys()
    assert any(bool(tensor.any()) for tensor in expected.values())
    for name, wanted in expected.items():
        largest = float(wanted.abs().max())
        torch.testing.assert_close(
            actual[name],
            wanted,
            rtol=tolerance,
            atol=tolerance * largest,
            msg=lambda text, n=name: f"{n}: {text}",
        )


def experiment(
    name: str, *, lora: Mapping[str, Any] | None = None, seed: int = 1, **training: Any
) -> Experiment:
    """An experiment whose training is never evaluated nor saved, unless said otherwise."""
    quiet = {"eval_strategy": "no", "save_strategy": "no"}
    return Experiment(
        name, name, LoraSettings(**(lora or {})), TrainingSettings(**{**quiet, **training}), seed
    )


@dataclass
class TrainedRun:
    """A training that has come to its end."""

    history: list[Event]
    state: TrainingState

    @property
    def events(self) -> list[dict[str, Any]]:
        """What was told of, as lines of the log."""
        return [event.to_json() for event in self.history]

    def column(self, name: str, key: str, event: str = "train") -> list[float]:
        """One figure of one experiment, step by step."""
        return [e[key] for e in self.events if e["event"] == event and e.get("experiment") == name]

    def losses(self, name: str) -> list[float]:
        """The loss of each step of one experiment."""
        return self.column(name, "loss")

    def adapter(self, name: str) -> dict[str, Tensor]:
        """What an experiment ended with."""
        return self.state.tensors[name].best


def train_all(
    base: Base,
    experiments: Sequence[Experiment],
    train_set: EncodedSet,
    folder: Path,
    *,
    waves: Sequence[Sequence[str]] | None = None,
    eval_set: EncodedSet = NO_ROWS,
    state: TrainingState | None = None,
    initial: Mapping[str, dict[str, Tensor]] | None = None,
    stop: StopRequest | None = None,
    generation: GenerationSettings | None = None,
    **shared: Any,
) -> TrainedRun:
    """Train experiments as the workflow does, into a run at `folder` (made where it is not)."""
    run = Run(folder) if folder.exists() else create_run(folder)
    names = [e.name for e in experiments]
    history: list[Event] = []
    setup = Setup(
        bank=AdapterBank(base),
        experiments=experiments,
        waves=[names] if waves is None else waves,
        initial=dict(initial or {}),
        train_set=train_set,
        eval_set=eval_set,
        eval_references=["reference"] * len(eval_set),
        retain_set=NO_ROWS,
        shared=TrainingSettings(**shared),
        generation=generation or GenerationSettings(max_new_tokens=4),
        run=run,
        stop=StopRequest() if stop is None else stop,
    )
    started = state or TrainingState.at_start(names)
    ended = train(setup, started, history.append)
    return TrainedRun(history, ended)


@contextmanager
def recomputing(base: Base) -> Iterator[None]:
    """Activation checkpointing, as a recipe sets it."""
    recompute_activations(base.model, True)
    try:
        yield
    finally:
        recompute_activations(base.model, False)


def unwrap(base: Base) -> None:
    """Put the plain linears back, whatever bank had wrapped them."""
    for name, module in list(base.model.named_modules()):
        if isinstance(module, BankLinear | BankEmbedding | BankNorm | TiedHead):
            parent, _, attribute = name.rpartition(".")
            setattr(base.model.get_submodule(parent), attribute, module.base)
    base.model.train()


def loaded_once(tiny: Callable[[str], Path]) -> Callable[[str], Base]:
    """A function that loads the tiny model of a kind as a frozen base, once."""
    return functools.cache(lambda kind: load_base(str(tiny(kind)), dtype="float32", device="cpu"))


def stock_model(folder: Path, **config: Any) -> Any:
    """The model as transformers loads it, without dropout, and without generation settings of its own.

    transformers 5 forces `tie_word_embeddings` on the T5 family, and UMT5 scales its logits by that
    flag: with a head of its own it would then be mis-scaled, so the flag is set to what is true.
    The decoder of a UMT5 sees what follows under SDPA in transformers 5.17
    (findings/umt5_decoder_sees_what_follows.sh); eager attention masks it in every version. That of a
    T5Gemma has no soft caps under SDPA, which 5.17 to 5.20 choose.
    """
    if config:
        return _load_stock_model(Path(folder), **config)
    files = sorted(Path(folder).iterdir())
    stamps = tuple((file.name, file.stat().st_ino, file.stat().st_mtime_ns) for file in files)
    return copy.deepcopy(_stock_model(Path(folder), stamps))


@functools.lru_cache(maxsize=16)
def _stock_model(folder: Path, stamps: object) -> Any:
    """Loaded once for as long as no file of the folder changes; a copy takes a fifth of the time."""
    return _load_stock_model(folder)


def _load_stock_model(folder: Path, **config: Any) -> Any:
    if AutoConfig.from_pretrained(folder).model_type in ("umt5", "t5gemma"):
        config.setdefault("attn_implementation", "eager")
    model = AutoModelForSeq2SeqLM.from_pretrained(folder, dtype=torch.float32, **config)
    for module in model.modules():
        for name in ("p", "dropout", "activation_dropout", "attention_dropout", "layerdrop"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)
    head, embedding = model.get_output_embeddings(), model.get_decoder().get_input_embeddings()
    model.config.tie_word_embeddings = head.weight is embedding.weight
    own = model.generation_config
    model.generation_config = GenerationConfig(
        decoder_start_token_id=own.decoder_start_token_id,
        bos_token_id=own.bos_token_id,
        eos_token_id=own.eos_token_id,
        pad_token_id=own.pad_token_id,
    )
    return model
