"""Rules that say, without a reader, whether an answer is a proper counselling answer.

They look at form and at whether the answer speaks of what was asked. Whether advice is wise they cannot say.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_SENTENCE_END = "。！？!?.…"
_CLOSING_MARKS = "”’」』）)\"'"

# What a question is wrapped in: it says nothing about the situation, so repeating it proves nothing.
ASKING_PHRASES = (
    "能给一些建议吗", "有什么建议吗", "有什么办法吗", "怎样才能好一点", "怎样才能好受一点", "该如何调整心态",
    "该怎么和对方说", "该怎么和家人说", "该怎么面对自己", "该怎么平静下来", "应该如何调节", "应该如何调整",
    "应该怎么做", "应该怎么想", "该怎么改变", "该怎么应对", "该怎么面对", "该怎么改善", "该怎么适应",
    "该怎么克服", "如何处理", "怎样面对", "怎么办", "想聊一聊", "的情况", "的事", "我觉得很", "让我很",
    "整个人很", "心里很", "请问", "遇到", "最近", "因为", "对于", "想起", "当", "时",
)  # fmt: skip
_BETWEEN_CONTENT = re.compile(
    "|".join([*map(re.escape, ASKING_PHRASES), r"[\s，。！？、；：,.!?;:“”「」（）()]+"])
)
# Bytes that spell no character: another fault than a loop, and counted as one of its own.
GARBLED = "\ufffd"
_LOOP = re.compile(r"([^\ufffd]{2,24}?)\1{2,}|([^\ufffd])\2{4,}", re.DOTALL)


def ends_as_sentence(answer: str) -> bool:
    """Whether the answer stops at the end of a sentence and was not cut off.

    >>> ends_as_sentence("先听对方说完。"), ends_as_sentence("冷静")
    (True, False)
    """
    return answer.rstrip().rstrip(_CLOSING_MARKS).endswith(tuple(_SENTENCE_END))


def distinct_share(answers: Sequence[str]) -> float:
    """The number of different answers over the number of answers; 0.0 for none."""
    return len({answer.strip() for answer in answers}) / len(answers) if answers else 0.0


def mentions_what_was_asked(instruction: str, answer: str, length: int = 4) -> bool:
    """Whether the answer repeats at least `length` characters in a row of the situation asked about.

    The question's own wrapping ("怎么办", "如何处理") does not count. Where no stretch of the situation is as
    long as `length`, the longest one must be repeated whole.

    >>> mentions_what_was_asked("和室友因为作息吵架，怎么办？", "和室友因为作息吵架，谁都会心烦。")
    True
    >>> mentions_what_was_asked("和室友因为作息吵架，怎么办？", "怎么办都要先冷静。")
    False
    """
    stretches = [stretch for stretch in _BETWEEN_CONTENT.split(instruction) if stretch]
    if not stretches:
        return False
    size = min(length, max(map(len, stretches)))
    grams = (text[start : start + size] for text in stretches for start in range(len(text) - size + 1))
    return any(gram in answer for gram in grams)


def copied_whole(answers: Iterable[str], training_responses: Iterable[str]) -> list[str]:
    """The answers that are, character for character, a response of the training rows."""
    known = {response.strip() for response in training_responses}
    return [answer for answer in answers if answer.strip() in known]


def is_garbled(answer: str) -> bool:
    """Whether the answer holds bytes that spell no character."""
    return GARBLED in answer


def stuck_in_a_loop(answer: str) -> bool:
    """Whether a phrase comes three times in a row, or one whole sentence twice.

    >>> stuck_in_a_loop("慢慢来，慢慢来，慢慢来，"), stuck_in_a_loop("慢慢来，不用急。")
    (True, False)
    """
    sentences = [part.strip() for part in re.split(r"[。！？!?]", answer) if len(part.strip()) >= 4]
    return bool(_LOOP.search(answer)) or len(sentences) != len(set(sentences))
