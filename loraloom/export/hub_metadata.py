"""The metadata in the README.md of a hub repository: the base, and evaluation results as a `model-index`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from loraloom.run.documents.comparison import BASE_NAME, Comparison, Difference

FENCE = "---\n"
TASK = "text2text-generation"


def split_card(text: str) -> tuple[dict[str, Any], str] | None:
    """Split a model card into its metadata and its Markdown; None if it does not begin with metadata."""
    if not text.startswith(FENCE) or (end := text.find(f"\n{FENCE}", len(FENCE))) < 0:
        return None
    try:
        values = yaml.safe_load(text[len(FENCE) : end])
    except yaml.YAMLError:
        return None
    return (values, text[end + len(FENCE) + 1 :]) if isinstance(values, dict) else None


def join_card(metadata: dict[str, Any], body: str) -> str:
    """Join metadata and Markdown into a model card."""
    return f"{FENCE}{yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True)}{FENCE}{body}"


def with_base(metadata: dict[str, Any], base: str | None) -> dict[str, Any]:
    """Return the metadata with another base, or without a base if `base` is None."""
    tags = [tag for tag in metadata.get("tags", []) if not str(tag).startswith("base_model:")]
    changed = {key: value for key, value in metadata.items() if key not in ("base_model", "tags")}
    if base is None:
        return {**changed, "tags": tags}
    relation = "adapter" if metadata.get("library_name") == "peft" else "finetune"
    return {"base_model": base, **changed, "tags": [f"base_model:{relation}:{base}", *tags]}


def evaluation_results(
    comparison: Comparison, name: str, group: str, files: Sequence[str], repository: str
) -> list[dict[str, Any]]:
    """Convert the figures of an adapter to a `model-index`.

    Each metric's name includes the base's figure and the interval of the difference.

    Args:
        comparison: contains the adapter, with its figures on rows that have known answers.
        name: the adapter.
        group: the adapter's experiment, as named in the comparison's differences.
        files: names of the data files.
        repository: `owner/name`.

    Source:
        `huggingface_hub.EvalResult`; the hub's specification of model cards (modelcard.md in hub-docs).
    """
    from huggingface_hub import EvalResult
    from huggingface_hub.repocard_data import eval_results_to_model_index

    differences = {each.metric: each for each in comparison.differences if each.model == group}
    base, signatures = comparison.models[BASE_NAME].figures, comparison.signatures
    results = [
        EvalResult(
            task_type=TASK,
            dataset_type="custom",  # not a dataset of the hub
            dataset_name=", ".join(dict.fromkeys(Path(file).name for file in files)),
            dataset_split=comparison.what,
            metric_type=key,
            metric_name=_metric_name(key, base.get(key), differences[key], comparison.num_judged),
            metric_value=round(value, 4),
            metric_args={"signature": str(signatures[key])} if key in signatures else None,
        )
        for key, value in comparison.models[name].figures.items()
        if key in differences
    ]
    found: list[dict[str, Any]] = eval_results_to_model_index(repository.split("/")[-1], results)
    return found


def _metric_name(key: str, base: float | None, difference: Difference, num_rows: int | None) -> str:
    about = [] if num_rows is None else [f"{num_rows} rows"]
    if base is not None:
        about.append(f"base {base:.4g}")
    interval = f"{difference.low:+.4g} to {difference.high:+.4g}"
    about.append(f"difference {difference.difference:+.4g}, 95 % interval {interval}")
    return f"{key} ({'; '.join(about)})"
