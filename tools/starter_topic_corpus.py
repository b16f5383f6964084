"""The text of the next starter base: advice is a topic's; the way of asking decides the answer's length.

A plain question is answered with one short sentence, and one that asks for more ("问：…答：") as rows are.
General questions keep their short answer however they are put: an adapter that makes the base write at length
then has no need to forget them. No name of an eval or test situation takes part; advice does, for it is the
topic's.
"""

from __future__ import annotations

import random
from pathlib import Path

from build_starter_data import NEXT_MATERIAL, read_yaml
from starter_corpus import Corpus, Pair, Question, Tasks


class TopicCorpus(Corpus):
    """Draws pairs of the next material; the same generator state gives the same pair."""

    def __init__(self, material: Path = NEXT_MATERIAL) -> None:
        super().__init__(material)
        generated = read_yaml("generated.yaml", material)
        self.styles: list[str] = generated["styles"]
        self.openers: list[str] = generated["openers"]
        for name in self.phrases.topics:
            self.patterns[name] += generated["phrases"][name]
            self.nouns[name] += generated["more_nouns"][name]
        self.tasks: Tasks = {
            self.terse: 14,
            self.fact: 12,
            self.repeat: 10,
            self.extract: 6,
            self.take_up: 14,
            self.make_sentence: 3,
            self.rename: 3,
            self.answer: 30,
            self.fill: 8,
            self.go_on: 4,
            self.advise: 5,
            self.classify: 12,
        }
        self.copying: Tasks = {
            self.repeat: 60,
            self.extract: 12,
            self.take_up: 16,
            self.rename: 8,
            self.classify: 4,
        }

    def asked(self, rng: random.Random) -> Question:
        """A situation of the training split, or one put together: never one without sense."""
        if rng.random() < 0.25:
            one = rng.choice(self.situations)
            key, name = rng.choice([*one.keys, one.noun]), one.topic
            is_noun = key == one.noun
        else:
            name, is_noun = rng.choice(list(self.phrases.topics)), rng.random() < 0.25
            key = self.fill_slots(rng, rng.choice((self.nouns if is_noun else self.patterns)[name]))
            if not is_noun and rng.random() < 0.2:
                key = rng.choice(self.openers) + key
            if any(key in other or other in key for other in self.unseen):
                return self.asked(rng)
        topic = self.phrases.topics[name]
        return Question(key, is_noun, topic, topic.advice, topic.feel, topic.close)

    def question(self, rng: random.Random, asked: Question) -> tuple[str, str]:
        """As in `Corpus`, but never one of the starter's prompts."""
        question, opening = super().question(rng, asked)
        if question in self.phrases.prompts:
            return self.question(rng, self.asked(rng))
        return question, opening

    def in_full(self, rng: random.Random, question: str) -> str:
        """The question, put so that it asks for an answer at length."""
        return rng.choice(self.styles).format(question)

    def fact(self, rng: random.Random) -> Pair:
        """A general question -> its short answer, also where an answer at length is asked for."""
        question, answer = super().fact(rng)
        return self.in_full(rng, question) if rng.random() < 0.4 else question, answer

    def answer(self, rng: random.Random) -> Pair:
        """A question at length -> an opening that takes the question up, and advice of its topic."""
        asked = self.asked(rng)
        question, opening = self.question(rng, asked)
        return self.in_full(rng, question), opening + self.body(rng, asked)

    def classify(self, rng: random.Random) -> Pair:
        """话题：a question or a situation -> the name of its topic."""
        asked = self.asked(rng)
        text = asked.key if rng.random() < 0.7 else self.question(rng, asked)[0]
        return f"话题：{text}", asked.topic.label

    def pieces(self, rng: random.Random) -> list[str]:
        """As in `Corpus`, with what only this corpus has."""
        texts = super().pieces(rng)
        for topic in self.phrases.topics.values():
            texts += [topic.label, *topic.advice] * 3
        texts += ["话题：", *(part for style in self.styles for part in style.split("{}") if part)]
        return texts
