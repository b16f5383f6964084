"""Pre-training of the starter: batches of its corpus, two optimizers, one schedule, states to resume from."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from starter_corpus import Corpus, Pair
from starter_tokenizer import PAD, SEED
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import MT5ForConditionalGeneration

WARMUP_STEPS = 50
COPYING_STEPS = 200  # short and cheap; measured: the loss of copying is 0.56 after 150 of them
BATCHES_PER_STEP = 3  # of different length, so that no step sees one task alone
DECAY_SHARE = 0.3
MAX_TOKENS = 110  # of a source or a target; the few longer pairs are left out


@dataclass(frozen=True)
class Batch:
    """Padded pairs: input_ids int64 [rows, source_len], labels int64 [rows, target_len]."""

    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor


def draw_batches(corpus: Corpus, tokenizer: Tokenizer, tokens_per_batch: int) -> Iterator[Batch]:
    """Endless batches; pairs of one pool are sorted by length, so that little is padding."""
    rng, drawn = random.Random(SEED), 0
    while True:
        tasks = corpus.copying if drawn < COPYING_STEPS * BATCHES_PER_STEP else corpus.tasks
        pairs: list[Pair] = [corpus.draw(rng, tasks) for _ in range(4_096)]
        sources = [encoding.ids for encoding in tokenizer.encode_batch([source for source, _ in pairs])]
        targets = [encoding.ids for encoding in tokenizer.encode_batch([target for _, target in pairs])]
        rows = [row for row in zip(sources, targets, strict=True) if max(map(len, row)) <= MAX_TOKENS]
        rows.sort(key=lambda row: (len(row[1]) // 8, len(row[0]), rng.random()))
        batches: list[list[tuple[list[int], list[int]]]] = [[]]
        widest = [0, 0]
        for row in rows:
            widest = [max(widest[side], len(row[side])) for side in (0, 1)]
            if (len(batches[-1]) + 1) * sum(widest) > tokens_per_batch:
                batches.append([])
                widest = [len(row[0]), len(row[1])]
            batches[-1].append(row)
        rng.shuffle(batches)
        drawn += len(batches)
        for batch in batches:
            input_ids = pad([source for source, _ in batch], PAD)
            yield Batch(input_ids, (input_ids != PAD).long(), pad([target for _, target in batch], -100))


def pad(rows: Sequence[list[int]], value: int) -> Tensor:
    """Rows of token ids as one tensor int64 [rows, longest]."""
    longest = max(map(len, rows))
    return torch.tensor([row + [value] * (longest - len(row)) for row in rows])


def optimizers(model: nn.Module, learning_rate: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside, AdamW for the embedding, the head and the scales."""
    inner = [
        p
        for name, p in model.named_parameters()
        if p.ndim == 2 and "shared" not in name and "lm_head" not in name and "bias" not in name
    ]
    ids = {id(p) for p in inner}
    outer = [p for p in model.parameters() if id(p) not in ids]
    steppers = [
        torch.optim.Muon(inner, lr=learning_rate, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(outer, lr=learning_rate / 3, betas=(0.9, 0.98), weight_decay=0.0),
    ]
    for stepper in steppers:
        for group in stepper.param_groups:
            group["initial_lr"] = group["lr"]
    return steppers


def pretrain(
    model: MT5ForConditionalGeneration,
    batches: Iterator[Batch],
    num_steps: int,
    learning_rate: float,
    state_path: Path | None,
) -> None:
    """Train in bfloat16 products with float32 weights; warm-up, a plateau, then down to nothing.

    Up to the decay a longer run is the same run, so that a state kept on the plateau serves both.
    """
    model.train()
    steppers = optimizers(model, learning_rate)
    first = restore(state_path, model, steppers) if state_path and state_path.exists() else 0
    decay_steps = max(1, int(num_steps * DECAY_SHARE))
    started, losses = time.perf_counter(), list[float]()
    for step in range(num_steps):
        parts = [next(batches) for _ in range(BATCHES_PER_STEP)]
        if step < first:
            continue
        num_labels = sum(int((batch.labels != -100).sum()) for batch in parts)
        total = 0.0
        for batch in parts:
            with torch.autocast("cpu", torch.bfloat16):
                logits = model(
                    input_ids=batch.input_ids, attention_mask=batch.attention_mask, labels=batch.labels
                ).logits
            loss = nn.functional.cross_entropy(
                logits.float().flatten(0, 1), batch.labels.flatten(), reduction="sum"
            )
            (loss / num_labels).backward()
            total += loss.item() / num_labels
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        factor = min((step + 1) / WARMUP_STEPS, (num_steps - step) / decay_steps, 1.0)
        for stepper in steppers:
            for group in stepper.param_groups:
                group["lr"] = group["initial_lr"] * factor
            stepper.step()
        model.zero_grad(set_to_none=True)
        losses.append(total)
        if (step + 1) % 25 == 0:
            seconds = time.perf_counter() - started
            print(f"step {step + 1}: loss {sum(losses) / len(losses):.4f}, {seconds:.0f} s", flush=True)
            losses.clear()
        if state_path and (step + 1) % 100 == 0:
            keep(state_path, model, steppers, step + 1)


def keep(path: Path, model: nn.Module, steppers: Sequence[torch.optim.Optimizer], step: int) -> None:
    """Write what a killed run needs to go on."""
    state = {"step": step, "model": model.state_dict(), "optimizers": [one.state_dict() for one in steppers]}
    torch.save(state, path.with_suffix(".part"))
    path.with_suffix(".part").replace(path)


def restore(path: Path, model: nn.Module, steppers: Sequence[torch.optim.Optimizer]) -> int:
    """Read what `keep` wrote; returns the number of steps done."""
    state = torch.load(path, weights_only=True)
    model.load_state_dict(state["model"])
    for stepper, kept in zip(steppers, state["optimizers"], strict=True):
        stepper.load_state_dict(kept)
    done: int = state["step"]
    return done
