"""Compose the starter's 1,000 counselling rows and its probe from the hand-written material.

    python tools/build_starter_data.py [--out FOLDER]

The same material and seed give the same files, byte for byte. Advice belongs to a topic, so that a held-out
situation can be answered as one of training is: what an adapter learns of it, it can use.
"""

from __future__ import annotations

import argparse
import json
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

MATERIAL = Path(__file__).resolve().parent / "starter_material"
DATA = Path(__file__).resolve().parent.parent / "loraloom" / "starter" / "data"
SEED = 20
NUM_ROWS = 1_000
MAX_SENTENCE_ROWS = 10
MAX_JACCARD = 0.5
SPLIT_SHARES = {"test": 20, "eval": 10}  # situations; the rest train


@dataclass(frozen=True)
class Topic:
    """What the situations of one field of life share."""

    label: str
    terse: tuple[str, ...]
    asks: tuple[str, ...]
    emotions: tuple[str, ...]
    feel: tuple[str, ...]
    close: tuple[str, ...]
    advice: tuple[str, ...]


@dataclass(frozen=True)
class Situation:
    """One situation: how it is named, as clauses and as a noun; what is advised is its topic's."""

    id: str
    topic: str
    keys: tuple[str, ...]
    noun: str


@dataclass(frozen=True)
class Frame:
    """A way to ask, and the openings that take it up."""

    ask: str
    open: tuple[str, ...]


@dataclass(frozen=True)
class Phrases:
    """Everything that is shared between situations."""

    topics: dict[str, Topic]
    shared_close: tuple[str, ...]
    clause_frames: tuple[Frame, ...]
    noun_frames: tuple[Frame, ...]
    prompts: tuple[str, ...]


def read_yaml(name: str) -> Any:
    """A file of the material."""
    return yaml.safe_load((MATERIAL / name).read_text(encoding="utf-8"))


def read_situations() -> list[Situation]:
    """All situations, in the order of the files."""
    return [
        Situation(raw["id"], raw["topic"], tuple(raw["keys"]), raw["noun"])
        for path in sorted(MATERIAL.glob("situations_*.yaml"))
        for raw in read_yaml(path.name)
    ]


def read_phrases() -> Phrases:
    """The shared phrases: frames, feelings, advice, closings."""
    raw = read_yaml("phrases.yaml")
    return Phrases(
        topics={
            name: Topic(
                topic["label"],
                *(tuple(topic[k]) for k in ("terse", "asks", "emotions", "feel", "close", "advice")),
            )
            for name, topic in raw["topics"].items()
        },
        shared_close=tuple(raw["shared_close"]),
        clause_frames=tuple(Frame(frame["ask"], tuple(frame["open"])) for frame in raw["clause_frames"]),
        noun_frames=tuple(Frame(frame["ask"], tuple(frame["open"])) for frame in raw["noun_frames"]),
        prompts=tuple(raw["prompts"]),
    )


def read_facts() -> list[dict[str, Any]]:
    """Groups of general questions: a name, ways to ask, and the answer for each subject."""
    return [dict(group) for group in read_yaml("facts.yaml")]


def divide(situations: list[Situation]) -> dict[str, str]:
    """Give each situation one split, spread over the topics.

    Returns:
        situation id -> train, eval or test.
    """
    rng = random.Random(SEED)
    by_topic: dict[str, list[str]] = {}
    for situation in situations:
        by_topic.setdefault(situation.topic, []).append(situation.id)
    for ids in by_topic.values():
        rng.shuffle(ids)
    # Round after round, one situation of each topic: no topic is only in training or only in the test.
    most = max(map(len, by_topic.values()))
    order = [ids[turn] for turn in range(most) for ids in by_topic.values() if turn < len(ids)]
    num_test, num_eval = SPLIT_SHARES["test"], SPLIT_SHARES["eval"]
    return {
        id_: "test" if place < num_test else "eval" if place < num_test + num_eval else "train"
        for place, id_ in enumerate(order)
    }


def sentences(response: str) -> list[str]:
    """The sentences of a response, with their full stops."""
    return [part + "。" for part in response.split("。") if part]


def five_grams(text: str) -> frozenset[str]:
    """The set of all runs of five characters."""
    return frozenset(text[start : start + 5] for start in range(len(text) - 4))


def jaccard(left: frozenset[str], right: frozenset[str]) -> float:
    """Shared over all members of two sets; 0.0 for two empty ones."""
    union = len(left | right)
    return len(left & right) / union if union else 0.0


def draw_question(
    rng: random.Random, situation: Situation, topic: Topic, phrases: Phrases, taken: Counter[str]
) -> tuple[str, str]:
    """An instruction about a situation, and an opening sentence that takes it up."""
    # A key that was used less is drawn first, so that the rows of a situation name it in many ways.
    key = min([*situation.keys, situation.noun], key=lambda name: (taken[name], rng.random()))
    frames = phrases.noun_frames if key == situation.noun else phrases.clause_frames
    frame = min(frames, key=lambda choice: (taken[choice.ask], rng.random()))
    slots = {
        "key": key,
        "ask": rng.choice(topic.asks),
        "emotion": rng.choice(topic.emotions),
        "feel": rng.choice(topic.feel),
    }
    taken.update([key, frame.ask])
    return frame.ask.format(**slots), rng.choice(frame.open).format(**slots)


def compose_rows(
    situation: Situation, num: int, phrases: Phrases, used: Counter[str], kept: list[frozenset[str]]
) -> Iterator[dict[str, str]]:
    """Compose `num` rows about one situation, no two of them alike.

    Args:
        situation: what the rows are about.
        num: how many rows.
        phrases: what all situations share.
        used: how many rows each sentence stands in so far; updated.
        kept: five-grams of the responses of its topic so far; updated.
    """
    rng = random.Random(f"{SEED}/{situation.id}")
    topic = phrases.topics[situation.topic]
    taken: Counter[str] = Counter()
    asked: set[str] = set()
    while len(asked) < num:
        instruction, opening = draw_question(rng, situation, topic, phrases, taken)
        advice = sorted(topic.advice, key=lambda text: used[text] + rng.random() * 2)
        closings = topic.close if rng.random() < 0.8 else phrases.shared_close
        closing = min(closings, key=lambda text: used[text] + rng.random() * 2)
        body = rng.choices([advice[:2], [advice[0], closing], [*advice[:2], closing]], [40, 40, 20])[0]
        response = opening + "".join(body)
        grams = five_grams(response)
        too_often = any(used[sentence] >= MAX_SENTENCE_ROWS for sentence in sentences(response))
        too_close = any(jaccard(grams, other) > MAX_JACCARD for other in kept)
        if instruction in asked or too_often or too_close:
            continue
        asked.add(instruction)
        kept.append(grams)
        used.update(sentences(response))
        yield {"instruction": instruction, "response": response, "situation": situation.id}


def build_rows() -> dict[str, list[dict[str, str]]]:
    """All rows by split, 1,000 in sum."""
    situations, phrases = read_situations(), read_phrases()
    split_of = divide(situations)
    used: Counter[str] = Counter()
    kept: dict[str, list[frozenset[str]]] = {}
    rows: dict[str, list[dict[str, str]]] = {"train": [], "eval": [], "test": []}
    for place, situation in enumerate(situations):
        num = NUM_ROWS * (place + 1) // len(situations) - NUM_ROWS * place // len(situations)
        alike = kept.setdefault(situation.topic, [])
        rows[split_of[situation.id]].extend(compose_rows(situation, num, phrases, used, alike))
    for name, part in rows.items():
        random.Random(f"{SEED}/{name}").shuffle(part)
    return rows


def build_probe() -> list[dict[str, str]]:
    """One general question for each fact; the ways to ask take turns."""
    return [
        {
            "instruction": group["ask"][place % len(group["ask"])].format(subject),
            "response": answer,
            "group": group["name"],
        }
        for group in read_facts()
        for place, (subject, answer) in enumerate(group["answers"].items())
    ]


def write_json(path: Path, value: object) -> None:
    """Write a JSON array as people read it."""
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """Write train, eval, test, probe and prompts, by default into the package."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=DATA)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    rows, probe = build_rows(), build_probe()
    for name, part in rows.items():
        write_json(options.out / f"{name}.json", part)
    write_json(options.out / "probe.json", probe)
    prompts = read_phrases().prompts
    write_json(options.out / "prompts.json", [{"instruction": prompt} for prompt in prompts])
    print({name: len(part) for name, part in rows.items()}, "probe", len(probe))


if __name__ == "__main__":
    main()
