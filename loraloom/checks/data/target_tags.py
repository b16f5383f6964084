"""Target-language tags at the start of sources: `>>fra<<` for opus-mt models, `<2fr>` for MADLAD-400."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator

from loraloom.checks.data.data_view import DataView, first_few, of_sample, places, share
from loraloom.checks.data.light_tokenizer import TARGET_TAG
from loraloom.checks.finding import Finding
from loraloom.data.example import Example
from loraloom.text.message import Message

_AT_THE_START = re.compile(rf"\s*({TARGET_TAG.pattern})")
# The tag may follow a mark of the beginning of a word.
_PLACES = 2


def check_target_tags(view: DataView) -> list[Finding]:
    """Check that every source begins with a target-language tag that the base has, if it has any."""
    assert view.tokenizer is not None
    known = view.tokenizer.target_tags
    tagged: dict[str, list[Example]] = {"known": [], "unknown": [], "torn": [], "none": []}
    found: Counter[str] = Counter()
    num_rows = 0
    for part in view.parts:
        encoded = view.encoded(part, "source")
        num_rows += len(encoded.rows)
        for example, ids in zip(encoded.rows, encoded.ids, strict=True):
            match = _AT_THE_START.match(example.source)
            if match is None:
                tagged["none"].append(example)
                continue
            found[match[1]] += 1
            id = known.get(match[1])
            kind = "unknown" if id is None else "known" if id in ids[:_PLACES] else "torn"
            tagged[kind].append(example)
    looked_at = of_sample(num_rows, view.num_rows())
    if not known:
        message = Message(
            "the base has no tags of target languages, and no source begins with one{looked_at}",
            looked_at=looked_at,
        )
        return list(_tags_of_another_base(tagged["unknown"], num_rows, looked_at)) or [
            Finding("ok", "target-tags", "data", message)
        ]
    return list(_findings(tagged, found, known, num_rows, looked_at)) or [
        Finding(
            "ok",
            "target-tags",
            "data",
            Message("every source begins with a tag of the base{looked_at}", looked_at=looked_at),
        )
    ]


def _findings(
    tagged: dict[str, list[Example]],
    found: Counter[str],
    known: Collection[str],
    num_rows: int,
    looked_at: str,
) -> Iterator[Finding]:
    """Yield findings about unknown, split or missing tags in sources, for a base that has tags."""
    names = sorted(known)
    if rows := tagged["unknown"]:
        wrong = first_few(sorted(tag for tag in found if tag not in names))
        yield Finding(
            "error",
            "target-tags",
            places(rows),
            Message(
                "{share} sources begin with a tag that the base does not know "
                "({wrong}){looked_at}; the base reads it as an unknown character or as pieces",
                share=share(len(rows), num_rows),
                wrong=wrong,
                looked_at=looked_at,
            ),
            Message(
                "Use one of the base's {num_names} tags: {first_few}.",
                num_names=len(names),
                first_few=first_few(names),
            ),
        )
    if rows := tagged["torn"]:
        yield Finding(
            "error",
            "target-tags",
            places(rows),
            Message(
                "{share} sources begin with a tag that the tokenizer splits into pieces{looked_at}",
                share=share(len(rows), num_rows),
                looked_at=looked_at,
            ),
            Message("Begin the source with the tag: not even white space may precede it."),
        )
    if rows := tagged["none"]:
        yield Finding(
            "warning",
            "target-tags",
            places(rows),
            Message(
                "{share} sources do not begin with a tag{looked_at}, but the base answers in {num_names} "
                "languages and needs the tag to know which one to use",
                share=share(len(rows), num_rows),
                looked_at=looked_at,
                num_names=len(names),
            ),
            Message(
                "Begin each source with a tag, for example with data.source_prefix: '{names} '.",
                names=names[0],
            ),
        )


def _tags_of_another_base(rows: list[Example], num_rows: int, looked_at: str) -> Iterator[Finding]:
    """Yield a finding if sources begin with tags although the base has none."""
    if rows:
        yield Finding(
            "warning",
            "target-tags",
            places(rows),
            Message(
                "{share} sources begin with a tag of a target language{looked_at}, but the base's "
                "vocabulary has no such tags; the base reads them as unknown characters or as pieces",
                share=share(len(rows), num_rows),
                looked_at=looked_at,
            ),
            Message("Remove the tags, or use a base with several target languages."),
        )
