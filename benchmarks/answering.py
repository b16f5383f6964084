"""Greedy answers of one adapter beside stock `generate` and CTranslate2, in one process, side by side.

    python -m benchmarks.answering [--shape mt5-small] [--prompts 128] [--new-tokens 24] [--rounds 5]

A random mT5 of a real shape in bfloat16, with an adapter of rank 16 on all linears that says something, and
random prompts of 8 to 24 tokens. Each side answers all prompts once a round, in turn, with a fixed number of
new tokens. *Stock* is `generate` of transformers on the merged model, which is faster than on PEFT's; its
batch is the best of 8, 32 and 64, and so is CTranslate2's (int8 of the merged model; if it is installed).
*Ours, all logits* is ours without the screen of the vocabulary, which is made for 4,096 tokens or more. The
ratio of a side is its time over ours, round by round. Times are wall-clock, or CPU time with `--cpu-time`,
which other programs hardly change.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.random_models import SHAPES, make_model, make_tokenizer
from benchmarks.rounds import options_of, ratio
from loraloom.bank import top_token
from loraloom.bank.bank import AdapterBank
from loraloom.base.loading import load_base
from loraloom.evaluate.generation import answer
from loraloom.recipe import GenerationSettings, LoraSettings

BATCHES = (8, 32, 64)
Answers = list[list[int]]


def main() -> None:
    """Measure and print."""
    options = _parser().parse_args()
    clock = time.process_time if options.cpu_time else time.perf_counter
    with tempfile.TemporaryDirectory() as scratch:
        sides = make_sides(options, Path(scratch))
        answers = {name: side() for name, side in sides.items()}  # nothing is measured for the first time
        seconds: dict[str, list[float]] = {name: [] for name in sides}
        for number in range(options.rounds):
            for name in sorted(sides, reverse=number % 2 == 1):
                begun = clock()
                sides[name]()
                seconds[name].append(clock() - begun)
    report(options, seconds, answers)


def _parser() -> argparse.ArgumentParser:
    parser = options_of(__doc__)
    parser.add_argument("--shape", default="mt5-small", choices=sorted(SHAPES))
    parser.add_argument("--prompts", type=int, default=128)
    parser.add_argument("--new-tokens", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, nargs="+", default=BATCHES, help="of stock and CTranslate2")
    parser.add_argument("--cpu-time", action="store_true")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    return parser


def make_sides(options: argparse.Namespace, place: Path) -> dict[str, Callable[[], Answers]]:
    """Make the models, and what each side does in a round."""
    generator = torch.Generator().manual_seed(1)
    lengths = torch.randint(8, 25, (options.prompts,), generator=generator).tolist()
    words = SHAPES[options.shape]["vocab_size"]
    sources = [[*torch.randint(300, words, (n - 1,), generator=generator).tolist(), 1] for n in lengths]
    tokenizer = make_tokenizer(["a few words for a tokenizer that nothing here uses"])
    make_model(place / "base", tokenizer, SHAPES[options.shape], torch.bfloat16)
    base = load_base(str(place / "base"), dtype="bfloat16", device="cpu")
    bank = AdapterBank(base)
    _attach(bank)
    settings = GenerationSettings(max_new_tokens=options.new_tokens, batch_size=64)

    def ours() -> Answers:
        return answer(bank, ["a"], sources, settings)["a"]

    def ours_with_all_logits() -> Answers:
        with _without_screen():
            return ours()

    sides = {"ours": ours, "ours, all logits": ours_with_all_logits}
    merged = _merged(bank, place)
    for size in options.batches:
        sides[f"stock, batch {size}"] = _stock(merged, sources, size, options.new_tokens)
    return sides | _ctranslate2(merged, tokenizer, sources, options, place)


def _attach(bank: AdapterBank) -> None:
    """Attach an adapter that changes the base by some percent."""
    settings = LoraSettings(r=16, lora_alpha=32, target_modules="all-linear")
    bank.attach("a", settings, seed=0)
    generator = torch.Generator().manual_seed(2)
    tensors = {
        name: torch.randn(tensor.shape, generator=generator) * 0.01
        if name.endswith("lora_B")
        else tensor.clone()
        for name, tensor in bank.tensors("a").items()
    }
    bank.load("a", tensors)


def _merged(bank: AdapterBank, place: Path) -> Any:
    """Return base + adapter as transformers' model, of which CTranslate2 makes its own."""
    other = load_base(str(place / "base"), dtype="bfloat16", device="cpu")
    linears = {target.name: target.linear for target in AdapterBank(other).available}
    for name, part in bank.parts("a").items():
        linears[name].add_(part.delta(linears[name]))
    return other.model.eval()


def _stock(model: Any, sources: Sequence[Sequence[int]], size: int, new_tokens: int) -> Callable[[], Answers]:
    """`generate` on padded batches of prompts of like lengths."""
    order = sorted(range(len(sources)), key=lambda row: len(sources[row]))

    @torch.no_grad()
    def run() -> Answers:
        answers: Answers = [[] for _ in sources]
        for first in range(0, len(order), size):
            rows = order[first : first + size]
            width = max(len(sources[row]) for row in rows)
            ids = torch.tensor([[*sources[row], *[0] * (width - len(sources[row]))] for row in rows])
            said = model.generate(
                input_ids=ids, attention_mask=(ids != 0).long(), max_new_tokens=new_tokens, do_sample=False
            )
            for row, tokens in zip(rows, said[:, 1:].tolist(), strict=True):
                answers[row] = tokens[: tokens.index(1)] if 1 in tokens else tokens
        return answers

    return run


def _ctranslate2(
    model: Any, tokenizer: Any, sources: Sequence[Sequence[int]], options: argparse.Namespace, place: Path
) -> dict[str, Callable[[], Answers]]:
    try:
        import ctranslate2
    except ImportError:
        print("CTranslate2 is not installed (`make extras`), so that side is missing")
        return {}

    class Converter(ctranslate2.converters.TransformersConverter):  # type: ignore[misc]
        def load_model(self, model_class: Any, name: str, **more: Any) -> Any:
            loaded = super().load_model(model_class, name, **more)
            loaded.config.tie_word_embeddings = False  # transformers forces it, and logits would be scaled
            return loaded

    model.save_pretrained(place / "merged")
    tokenizer.save_pretrained(place / "merged")
    Converter(str(place / "merged")).convert(str(place / "ct2"), quantization="int8")
    translator = ctranslate2.Translator(
        str(place / "ct2"), compute_type="int8", intra_threads=torch.get_num_threads(), inter_threads=1
    )
    vocabulary = json.loads((place / "ct2" / "shared_vocabulary.json").read_text(encoding="utf-8"))
    texts = [[vocabulary[token] for token in source] for source in sources]
    numbers = {word: number for number, word in enumerate(vocabulary)}

    def run(size: int) -> Answers:
        results = translator.translate_batch(
            texts, beam_size=1, max_batch_size=size, max_decoding_length=options.new_tokens
        )
        return [[numbers[token] for token in result.hypotheses[0]] for result in results]

    return {f"CTranslate2 int8, batch {size}": partial(run, size) for size in options.batches}


@contextmanager
def _without_screen() -> Iterator[None]:
    own, top_token.MIN_TOKENS = top_token.MIN_TOKENS, 10**12
    screens = dict(top_token._SCREENS)
    top_token._SCREENS.clear()
    try:
        yield
    finally:
        top_token.MIN_TOKENS = own
        top_token._SCREENS.update(screens)


def report(
    options: argparse.Namespace, seconds: Mapping[str, Sequence[float]], answers: Mapping[str, Answers]
) -> None:
    """Print a line for each side, and write all figures."""
    kind = "CPU time" if options.cpu_time else "wall-clock"
    print(
        f"{options.shape}'s shape, bfloat16, {options.prompts} prompts, {options.new_tokens} new tokens; "
        f"{kind}, {torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} "
        "processors"
    )
    print(f"{'side':28}{'tokens/s':>10}  side / ours (range)   tokens  answers as ours")
    rows = []
    for name, own in seconds.items():
        num_tokens = sum(map(len, answers[name]))
        same = sum(a == b for a, b in zip(answers[name], answers["ours"], strict=True))
        rows.append(
            {
                "side": name,
                "seconds": list(own),
                "tokens": num_tokens,
                "same_answers": same,
                "over_ours": ratio(own, seconds["ours"]),
            }
        )
        speed = num_tokens / statistics.median(own)
        print(
            f"{name:28}{speed:10.0f}  {rows[-1]['over_ours']:22}{num_tokens:6}  {same} of {options.prompts}"
        )
    if options.json is not None:
        options.json.write_text(
            json.dumps({"options": vars(options) | {"json": None}, "rows": rows}, indent=1)
        )


if __name__ == "__main__":
    main()
