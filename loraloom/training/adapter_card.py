"""The model card of an adapter: its base, its data, its training, and code that loads it.

It contains only facts that identical trainings share: no times, no paths of this machine, no text of a row.
"""

from __future__ import annotations

from collections.abc import Sequence

import yaml

from loraloom.recipe import Recipe
from loraloom.training.card_code import peft_code
from loraloom.training.card_facts import Facts

# Settings that an adapter's own folder contains.
OF_ADAPTER = ("r", "lora_alpha", "lora_dropout", "target_modules")


def adapter_card(facts: Facts) -> str:
    """Write the README.md of an adapter folder."""
    return "\n".join(
        [
            front_matter(facts, "peft"),
            f"# {facts.experiment.name}: a LoRA adapter for {facts.base}",
            "",
            "Trained with LoRALoom; PEFT and plain transformers load it.",
            "",
            "## Use",
            "",
            python_block(peft_code(facts, ".", "this folder")),
            "",
            *training_sections(facts),
        ]
    )


def front_matter(facts: Facts, library: str, *tags: str) -> str:
    """Write the YAML that Hugging Face reads."""
    relation = {"peft": "adapter"}.get(library, "finetune")
    values = {
        "base_model": facts.base,
        "library_name": library,
        "pipeline_tag": "text2text-generation",
        "tags": [f"base_model:{relation}:{facts.base}", "lora", "loraloom", "transformers", *tags],
    }
    return f"---\n{yaml.safe_dump(values, sort_keys=False, allow_unicode=True)}---\n"


def training_sections(facts: Facts) -> list[str]:
    """Write base, data, settings and versions, as lines of Markdown."""
    origin, settings = facts.origin, facts.recipe.data
    rows = ", ".join(f"{number} {part}" for part, number in facts.num_rows.items() if number)
    fingerprint = code(str(origin["base_fingerprint"])[:16])
    lines = [
        "## Base",
        "",
        f"{code(facts.base)}; LoRALoom's fingerprint of its weights is {fingerprint}.",
        "",
    ]
    if not facts.has_run:
        settings_known = [row for row in _settings(facts) if row[0] in OF_ADAPTER]
        lines += ["## Adapter", "", *table(("setting", "value"), settings_known), ""]
        unknown = "so nothing more is known about its training"
        lines += [f"This card was written without the run that trained the adapter, {unknown}.", ""]
        return [*lines, *_versions(facts)]
    lines += ["## Data", "", f"{rows} rows, split by seed {settings.split_seed}; sha256 of the files:", ""]
    lines += [f"- {code(file)}: {code(sha256)}" for file, sha256 in facts.files]
    if facts.languages:
        pairs = ", ".join(f"{source} to {target}" for source, target in facts.languages)
        lines += ["", f"Languages, by the codes of the tokenizer: {pairs}."]
    if settings.source_prefix:
        lines += [
            "",
            f"Every source was written as {code(settings.source_prefix)}; write yours in the same way.",
        ]
    lines += ["", "## Training", "", *table(("setting", "value"), _settings(facts)), "", _best(facts), ""]
    return [*lines, *_versions(facts)]


def _versions(facts: Facts) -> list[str]:
    lines = ["## Versions", "", ", ".join(f"{name} {number}" for name, number in facts.versions.items()), ""]
    if facts.flag_matters_before and not facts.flag_matters:
        lines += [
            f"With transformers 5 before {facts.flag_matters_before}, set "
            "`model.config.tie_word_embeddings = False` after loading;",
            "otherwise it scales the logits, and only greedy answers are correct.",
            "",
        ]
    return lines


def _settings(facts: Facts) -> list[tuple[str, str]]:
    lora, training = facts.experiment.lora, facts.experiment.training
    length = f"{training.num_train_epochs:g} epochs"
    batch = f"{training.per_device_train_batch_size} × {training.gradient_accumulation_steps}"
    return [
        ("r", str(lora.r)),
        ("lora_alpha", f"{lora.lora_alpha:g} (ΔW is scaled by {lora.scaling:g})"),
        ("lora_dropout", f"{lora.lora_dropout:g}"),
        ("target_modules", ", ".join(facts.target_modules)),
        ("learning_rate", f"{training.learning_rate:g}, {training.lr_scheduler_type}"),
        ("warmup_steps", f"{training.warmup_steps:g}"),
        ("length", length if training.max_steps is None else f"{training.max_steps} steps"),
        ("batch size × accumulation", batch),
        ("weight_decay", f"{training.weight_decay:g}"),
        ("max_source_length, max_target_length", _lengths(facts.recipe)),
        ("seed", str(facts.experiment.seed)),
    ]


def _lengths(recipe: Recipe) -> str:
    return f"{recipe.data.max_source_length}, {recipe.data.max_target_length}"


def _best(facts: Facts) -> str:
    step, figure = facts.origin.get("best_step"), facts.origin.get("best_metric")
    if figure is None:
        return f"These are the weights after step {step}; no evaluation selected them."
    metric = facts.origin.get("metric_for_best_model")
    return (
        f"Of all evaluations, step {step} was best: {metric} {figure:.4f} on the {facts.num_rows['eval']} "
        "eval rows. They selected it, so the figure is optimistic."
    )


def python_block(text: str) -> str:
    """Fence a block of Python."""
    return f"```python\n{text}```"


def code(text: str) -> str:
    """Format inline code, even if it contains a backtick."""
    flat = " ".join(text.split())
    return f"`` {flat} ``" if "`" in flat else f"`{flat}`"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a Markdown table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return [f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines]


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
