"""Judge the answers of a run on the starter: is each a proper sentence, about what was asked, its own?

loraloom train starter --seeds 3 --out RUN && loraloom compare RUN && python tools/judge_run.py RUN
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import judge_answers as judge
from build_starter_data import read_phrases, read_situations, sentences

from loraloom.starter import data_file


def main() -> None:
    """Print a Markdown table: a line a rule, a column a model."""
    comparison = json.loads((Path(sys.argv[1]) / "compare" / "test.json").read_text(encoding="utf-8"))
    training = [row["response"] for row in json.loads(data_file("train").read_text(encoding="utf-8"))]
    models = list(comparison["models"])
    figures = {model: judged(comparison, model, training) for model in models}
    print(f"| {comparison['num_rows']} rows of unseen situations | {' | '.join(models)} |")
    print(f"|---|{'---|' * len(models)}")
    for rule in figures[models[0]]:
        print(f"| {rule} | {' | '.join(figures[model][rule] for model in models)} |")
    for group in comparison["differences"]:
        if group["metric"] == "chrf":
            over = f"{group['difference']:+.2f} ({group['low']:+.2f} to {group['high']:+.2f})"
            print(f"\nchrF of {group['model']} over the base's: {over}")


def judged(comparison: dict[str, Any], model: str, training: list[str]) -> dict[str, str]:
    """The figures of one model."""
    questions = [row["source"] for row in comparison["rows"]]
    answers = [row["answers"][model] for row in comparison["rows"]]
    asked = json.loads(data_file("test").read_text(encoding="utf-8"))
    assert [row["instruction"] for row in asked] == questions
    pairs = list(zip(questions, answers, strict=True))
    chrf = comparison["models"][model]["figures"]["chrf"]
    return {
        "median length in characters": f"{statistics.median(map(len, answers)):g}",
        "ends as a sentence": share(judge.ends_as_sentence(answer) for answer in answers),
        "distinct": f"{judge.distinct_share(answers):.1%}",
        "mentions what was asked": share(judge.mentions_what_was_asked(q, a) for q, a in pairs),
        "copied whole from training": str(len(judge.copied_whole(answers, training))),
        "stuck in a loop": str(sum(judge.stuck_in_a_loop(answer) for answer in answers)),
        "with garbled characters": str(sum(judge.is_garbled(answer) for answer in answers)),
        "known advice that is of the asked topic": f"{on_topic_share(asked, answers):.1%}",
        "corpus chrF": f"{chrf:.2f}",
    }


def on_topic_share(rows: Sequence[dict[str, str]], answers: Sequence[str]) -> float:
    """Of the sentences an answer took from the written material, the share that is of the asked topic.

    There are twelve topics: advice drawn blindly would give about 0.08.
    """
    topic_of = {one.id: one.topic for one in read_situations()}
    topics: dict[str, set[str]] = {}
    for name, topic in read_phrases().topics.items():
        for sentence in (*topic.advice, *topic.close):
            topics.setdefault(sentence, set()).add(name)
    hits = [
        topic_of[row["situation"]] in topics[sentence]
        for row, one_answer in zip(rows, answers, strict=True)
        for sentence in sentences(one_answer)
        if sentence in topics
    ]
    return sum(hits) / len(hits) if hits else 0.0


def share(verdicts: Any) -> str:
    """The share of verdicts that are true."""
    found = [bool(verdict) for verdict in verdicts]
    return f"{sum(found) / len(found):.1%}"


if __name__ == "__main__":
    main()
