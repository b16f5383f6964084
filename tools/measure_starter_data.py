"""Measure the starter's rows: how alike responses are, how often a sentence comes back, who leaks where.

python tools/measure_starter_data.py [FOLDER]
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from build_starter_data import DATA, five_grams, jaccard, sentences

Rows = Sequence[Mapping[str, str]]

# Digits that could be a telephone or an identity number, addresses, handles, a surname with a title.
PERSONAL = re.compile(
    r"\d{5,}|[\w.]+@[\w.]+|https?:|www\.|@\w+|微信号|QQ号|身份证"
    r"|[王李张刘陈杨赵黄周吴徐孙朱林](某|老师|同学|先生|女士|医生|阿姨|叔叔)"
)


def highest_jaccard(responses: Sequence[str]) -> float:
    """The highest character-5-gram Jaccard similarity over all pairs of responses."""
    grams = [five_grams(response) for response in responses]
    return max(jaccard(left, right) for place, left in enumerate(grams) for right in grams[place + 1 :])


def highest_sentence_share(responses: Sequence[str]) -> tuple[float, str]:
    """The share of responses that hold the most frequent sentence, and that sentence."""
    counts = Counter(sentence for response in responses for sentence in set(sentences(response)))
    sentence, count = counts.most_common(1)[0]
    return count / len(responses), sentence


def personal_data(rows: Rows) -> list[str]:
    """Texts that look as if they held personal data."""
    return [text for row in rows for text in (row["instruction"], row["response"]) if PERSONAL.search(text)]


def shared_situations(train: Rows, held_out: Rows) -> set[str]:
    """Situations that stand in both."""
    return {row["situation"] for row in train} & {row["situation"] for row in held_out}


def read_split(name: str, folder: Path = DATA) -> list[dict[str, str]]:
    """The rows of one file."""
    rows: list[dict[str, str]] = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    return rows


def measure(folder: Path = DATA) -> dict[str, object]:
    """All figures the card states."""
    splits = {name: read_split(name, folder) for name in ("train", "eval", "test")}
    rows = [row for part in splits.values() for row in part]
    responses = [row["response"] for row in rows]
    share, sentence = highest_sentence_share(responses)
    prompts = {row["instruction"] for row in read_split("prompts", folder)}
    lengths = sorted(map(len, responses))
    return {
        "rows": {name: len(part) for name, part in splits.items()} | {"all": len(rows)},
        "situations": {name: len({row["situation"] for row in part}) for name, part in splits.items()},
        "response_characters": {
            "least": lengths[0],
            "median": lengths[len(lengths) // 2],
            "most": lengths[-1],
        },
        "distinct_responses": len(set(responses)),
        "distinct_instructions": len({row["instruction"] for row in rows}),
        "highest_jaccard": round(highest_jaccard(responses), 4),
        "highest_sentence_share": share,
        "most_frequent_sentence": sentence,
        "situations_in_train_and_test": sorted(shared_situations(splits["train"], splits["test"])),
        "situations_in_train_and_eval": sorted(shared_situations(splits["train"], splits["eval"])),
        "situations_in_eval_and_test": sorted(shared_situations(splits["eval"], splits["test"])),
        "rows_with_a_prompt": sum(row["instruction"] in prompts for row in rows),
        "personal_data": personal_data(rows),
        "probe_rows": len(read_split("probe", folder)),
    }


if __name__ == "__main__":
    print(json.dumps(measure(*map(Path, sys.argv[1:])), ensure_ascii=False, indent=1))
