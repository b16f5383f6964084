"""The text the starter base is pre-trained on: short tasks over the counselling language, drawn without end.

Advice is a topic's. A plain question is answered with one short sentence, and one that asks for more
("问：…答：") as the rows are, so that composing is something the base can do and does not do unasked. General
questions keep their short answer however they are put: an adapter that makes the base write at length then
has no need to forget them.

No name of an eval or test situation takes part, and no prompt; their advice does, because it is the topic's.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass

from build_starter_data import (
    Frame,
    Phrases,
    Situation,
    Topic,
    divide,
    read_facts,
    read_phrases,
    read_situations,
    read_yaml,
    sentences,
)

Pair = tuple[str, str]
Tasks = dict[Callable[[random.Random], Pair], float]
_SLOT = re.compile(r"\{(\w+)\}")
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class Question:
    """A situation to ask about: one of the training split, or one put together."""

    key: str
    is_noun: bool
    topic: Topic


def common_characters() -> str:
    """The 3,755 most common Chinese characters, in the order of GB 2312 level 1."""
    cells = (bytes([row, cell]) for row in range(0xB0, 0xD8) for cell in range(0xA1, 0xFF))
    return "".join(cell.decode("gb2312", errors="ignore") for cell in cells)


class Corpus:
    """Draws (source, target) pairs; the same generator state gives the same pair."""

    def __init__(self) -> None:
        situations = read_situations()
        split_of = divide(situations)
        generated = read_yaml("generated.yaml")
        self.phrases: Phrases = read_phrases()
        self.situations: list[Situation] = [one for one in situations if split_of[one.id] == "train"]
        self.unseen: list[str] = [
            key for one in situations if split_of[one.id] != "train" for key in (*one.keys, one.noun)
        ]
        self.words: dict[str, list[str]] = generated["words"]
        self.clauses: dict[str, list[str]] = generated["clauses"]
        self.nouns: dict[str, list[str]] = generated["nouns"]
        self.lexicon: dict[str, list[str]] = generated["lexicon"]
        self.links: list[str] = generated["links"]
        self.openers: list[str] = generated["openers"]
        self.asks: list[str] = generated["asks"]
        self.frames: list[str] = generated["frames"]
        self.styles: list[str] = generated["styles"]
        self.facts = read_facts()
        self.all_words: list[str] = sorted({word for group in self.words.values() for word in group})
        self.characters: str = common_characters()
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
            self.classify: 40,
        }
        # Short, and nothing in them can be guessed: here attention learns to carry pieces across.
        self.copying: Tasks = {
            self.repeat: 60,
            self.extract: 12,
            self.take_up: 16,
            self.rename: 8,
            self.classify: 4,
        }

    def draw(self, rng: random.Random, tasks: Tasks) -> Pair:
        """One training pair of the tasks, drawn by their weights."""
        return rng.choices(list(tasks), list(tasks.values()))[0](rng)

    # What is asked about.

    def fill_slots(self, rng: random.Random, pattern: str) -> str:
        """A pattern with every slot filled by a word of its list."""
        return _SLOT.sub(lambda slot: rng.choice(self.words[slot[1]]), pattern)

    def nonsense(self, rng: random.Random) -> str:
        """Words and characters without sense: what can only be copied, not guessed."""
        parts = []
        for _ in range(rng.randint(2, 4)):
            kind = rng.random()
            if kind < 0.6:
                parts.append(rng.choice(self.all_words))
            elif kind < 0.95:
                parts.append("".join(rng.choices(self.characters, k=rng.randint(1, 3))))
            else:
                parts.append("".join(rng.choices(_LETTERS, k=rng.randint(2, 6))))
        return "".join(parts)

    def asked(self, rng: random.Random) -> Question:
        """A situation of the training split, or one put together."""
        if rng.random() < 0.25:
            one = rng.choice(self.situations)
            key = rng.choice([*one.keys, one.noun])
            return Question(key, key == one.noun, self.phrases.topics[one.topic])
        name, is_noun = rng.choice(list(self.phrases.topics)), rng.random() < 0.25
        if rng.random() < 0.3:
            key = self.of_words(rng, name)
        else:
            key = self.fill_slots(rng, rng.choice((self.nouns if is_noun else self.clauses)[name]))
        if not is_noun and rng.random() < 0.2:
            key = rng.choice(self.openers) + key
        if any(key in other or other in key for other in self.unseen):
            return self.asked(rng)
        return Question(key, is_noun, self.phrases.topics[name])

    def of_words(self, rng: random.Random, topic: str) -> str:
        """One to three words of a topic and what may stand between them: a topic is known by its words."""
        words = rng.sample(self.lexicon[topic], rng.choice([1, 2, 2, 3]))
        return "".join(rng.choice(self.links) + word for word in words) + rng.choice(["", "", "了", "的事"])

    def question(self, rng: random.Random, asked: Question) -> tuple[str, str]:
        """A question about it, never one of the prompts, and the opening sentence of its answer."""
        frame: Frame = rng.choice(self.phrases.noun_frames if asked.is_noun else self.phrases.clause_frames)
        slots = {
            "key": asked.key,
            "ask": rng.choice(asked.topic.asks),
            "emotion": rng.choice(asked.topic.emotions),
            "feel": rng.choice(asked.topic.feel),
        }
        question, opening = frame.ask.format(**slots), rng.choice(frame.open).format(**slots)
        if question in self.phrases.prompts:
            return self.question(rng, self.asked(rng))
        return question, opening

    def in_full(self, rng: random.Random, question: str) -> str:
        """The question, put so that it asks for an answer at length."""
        return rng.choice(self.styles).format(question)

    def body(self, rng: random.Random, asked: Question) -> str:
        """One to three sentences of advice."""
        closing = rng.choice(asked.topic.close if rng.random() < 0.8 else self.phrases.shared_close)
        advice = rng.sample(asked.topic.advice, 2)
        return "".join(
            rng.choices([advice, [advice[0], closing], [*advice, closing], [closing]], [4, 4, 2, 1])[0]
        )

    def sentence(self, rng: random.Random) -> str:
        """Any one sentence of the domain."""
        asked = self.asked(rng)
        kind = rng.random()
        if kind < 0.4:
            return self.question(rng, asked)[1]
        if kind < 0.6:
            return rng.choice(self.frames).format(key=asked.key)
        return rng.choice([*asked.topic.advice, *asked.topic.close])

    # The tasks.

    def terse(self, rng: random.Random) -> Pair:
        """A plain question -> one short sentence. This is how the base answers unasked."""
        asked = self.asked(rng)
        if rng.random() < 0.3:
            question = rng.choice(self.asks).format(key=asked.key)
        else:
            question = self.question(rng, asked)[0]
        soothing = any(word in question for word in ("调", "心", "面对", "怎样", "缓解", "平静"))
        return question, asked.topic.terse[1 if soothing else 0]

    def fact(self, rng: random.Random) -> Pair:
        """A general question -> its short answer, also where an answer at length is asked for."""
        group = rng.choice(self.facts)
        subject, answer = rng.choice(list(group["answers"].items()))
        question = rng.choice(group["ask"]).format(subject)
        return self.in_full(rng, question) if rng.random() < 0.4 else question, answer

    def repeat(self, rng: random.Random) -> Pair:
        """复制：text -> the same text."""
        kind = rng.random()
        text = self.nonsense(rng) if kind < 0.6 else self.asked(rng).key if kind < 0.8 else self.sentence(rng)
        return f"复制：{text}", text

    def extract(self, rng: random.Random) -> Pair:
        """摘录：question -> what it asks about."""
        asked = self.asked(rng)
        question = rng.choice([self.question(rng, asked)[0], rng.choice(self.asks).format(key=asked.key)])
        return f"摘录：{question}", asked.key

    def take_up(self, rng: random.Random) -> Pair:
        """接话：question -> one sentence that takes it up."""
        question, opening = self.question(rng, self.asked(rng))
        return f"接话：{question}", opening

    def make_sentence(self, rng: random.Random) -> Pair:
        """造句：phrase -> a sentence with the phrase in it."""
        asked = self.asked(rng)
        if rng.random() < 0.5:
            return f"造句：{asked.key}", rng.choice(self.frames).format(key=asked.key)
        return f"造句：{asked.key}", self.question(rng, asked)[1]

    def rename(self, rng: random.Random) -> Pair:
        """替换：a sentence about one thing -> the same sentence about another."""
        old, new = self.asked(rng).key, self.asked(rng).key
        frame = rng.choice(self.frames)
        return f"替换：{frame.format(key=old)}把“{old}”换成“{new}”", frame.format(key=new)

    def answer(self, rng: random.Random) -> Pair:
        """A question at length -> an opening that takes the question up, and advice of its topic."""
        asked = self.asked(rng)
        question, opening = self.question(rng, asked)
        return self.in_full(rng, question), opening + self.body(rng, asked)

    def fill(self, rng: random.Random) -> Pair:
        """补全：a question and its answer with gaps -> what stood in the gaps, as T5 writes it."""
        asked = self.asked(rng)
        question, opening = self.question(rng, asked)
        answer = opening + self.body(rng, asked)
        text = f"问：{question}答：{answer}"
        if rng.random() < 0.35:
            # A gap of whole sentences, now and then of all of them: composing is learned here.
            parts = sentences(answer)
            start = rng.randrange(len(parts))
            end = rng.randint(start + 1, len(parts))
            before, gap, after = "".join(parts[:start]), "".join(parts[start:end]), "".join(parts[end:])
            return f"补全：问：{question}答：{before}<extra_id_0>{after}", f"<extra_id_0>{gap}"
        source, target, place = "", "", 0
        for sentinel in range(rng.randint(1, 3)):
            start = place + rng.randint(1, max(2, len(text) // 4))
            end = min(len(text), start + rng.randint(2, 12))
            if start >= end:
                break
            source += f"{text[place:start]}<extra_id_{sentinel}>"
            target += f"<extra_id_{sentinel}>{text[start:end]}"
            place = end
        return f"补全：{source}{text[place:]}", target

    def go_on(self, rng: random.Random) -> Pair:
        """续写：how a text begins -> how it goes on."""
        asked = self.asked(rng)
        text = self.question(rng, asked)[1] + self.body(rng, asked)
        cut = text.index("。") + 1 if rng.random() < 0.5 else rng.randint(2, max(3, len(text) * 2 // 3))
        return f"续写：{text[:cut]}", text[cut:]

    def advise(self, rng: random.Random) -> Pair:
        """建议：a situation -> one piece of advice."""
        asked = self.asked(rng)
        return f"建议：{asked.key}", rng.choice(asked.topic.advice)

    def classify(self, rng: random.Random) -> Pair:
        """话题：a situation or a question -> the name of its topic."""
        asked = self.asked(rng)
        text = asked.key if rng.random() < 0.7 else self.question(rng, asked)[0]
        return f"话题：{text}", asked.topic.label

    # For the tokenizer.

    def pieces(self, rng: random.Random) -> list[str]:
        """Text from which the vocabulary is learned.

        Frames and what fills them come apart: a vocabulary piece across that border would cut one and the
        same phrase differently in a question and in its answer, and copying would have to spell it anew.
        """
        phrases = self.phrases
        frames = [*phrases.clause_frames, *phrases.noun_frames]
        patterns = [
            *self.asks,
            *self.frames,
            *(one.ask for one in frames),
            *(text for one in frames for text in one.open),
        ]
        texts = [
            part
            for pattern in patterns
            for part in _SLOT.split(pattern)
            if part not in ("key", "ask", "emotion", "feel")
        ]
        for topic in phrases.topics.values():
            texts += [*topic.terse, *topic.asks, *topic.emotions, *topic.feel, *topic.close]
        texts += phrases.shared_close
        for one in self.situations:
            texts += [*one.keys, one.noun]
        texts *= 3
        texts += [
            self.fill_slots(rng, pattern)
            for group in self.clauses.values()
            for pattern in group
            for _ in range(20)
        ]
        texts += self.all_words * 3
        texts += [word for words in self.lexicon.values() for word in words] * 5
        for group in self.facts:
            for subject, answer in group["answers"].items():
                texts += [subject, answer]
            texts += [part for ask in group["ask"] for part in ask.split("{0}")] * 5
        texts += [
            "复制：",
            "摘录：",
            "接话：",
            "造句：",
            "替换：",
            "排序：",
            "查找：",
            "补全：",
            "续写：",
            "建议：",
        ]
        texts += ["问：", "答："]
        for topic in phrases.topics.values():
            texts += [topic.label, *topic.advice] * 3
        texts += ["话题：", *(part for style in self.styles for part in style.split("{}"))]
        return [text for text in texts if text]
