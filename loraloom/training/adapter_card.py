"""An adapter's model card: its base, its data, its training, and code that loads it.

It contains only facts that do not change if the same training is repeated: no times, no local paths, and no
text from the rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import yaml

from loraloom.recipe import Recipe
from loraloom.text.catalogue import filled
from loraloom.text.hub_name import repository_of
from loraloom.text.visible import shown_value
from loraloom.training.card_code import peft_code
from loraloom.training.card_facts import Facts

# Settings that an adapter's own folder contains.
OF_ADAPTER = ("r", "lora_alpha", "lora_dropout", "target_modules")


def adapter_card(facts: Facts) -> str:
    """Return the contents of an adapter folder's README.md."""
    return "\n".join(
        [
            front_matter(facts, "peft"),
            title(facts),
            "",
            filled("Trained with LoRALoom; PEFT and plain transformers load it."),
            "",
            f"## {filled('Use')}",
            "",
            python_block(peft_code(facts, ".", filled("this folder"))),
            "",
            *training_sections(facts),
        ]
    )


def title(facts: Facts) -> str:
    """Return the heading of an adapter's card."""
    name = filled(
        "{experiment}: a LoRA adapter for {base}", experiment=facts.experiment.name, base=facts.base
    )
    return f"# {name}"


def front_matter(facts: Facts, library: str, *tags: str) -> str:
    """Return the YAML at the top of a card, which Hugging Face reads.

    Args:
        facts: facts in the card.
        library: name of the library that loads the model: `peft` for an adapter.
        tags: additional tags for the model.
    """
    relation, base = {"peft": "adapter"}.get(library, "finetune"), repository_of(facts.base)
    values = {
        "base_model": base,
        "library_name": library,
        "pipeline_tag": "text2text-generation",
        "tags": [f"base_model:{relation}:{base}", "lora", "loraloom", "transformers", *tags],
    }
    return f"---\n{yaml.safe_dump(values, sort_keys=False, allow_unicode=True)}---\n"


def training_sections(facts: Facts) -> list[str]:
    """Return the sections on base, data, settings and versions, as lines of Markdown."""
    origin, settings = facts.origin, facts.recipe.data
    rows = ", ".join(f"{number} {part}" for part, number in facts.num_rows.items() if number)
    fingerprint = code(str(origin["base_fingerprint"])[:16])
    lines = [
        f"## {filled('Base')}",
        "",
        filled(
            "{base}; LoRALoom's fingerprint of its weights is {fingerprint}.",
            base=code(facts.base),
            fingerprint=fingerprint,
        ),
        "",
    ]
    if (quantization := origin.get("quantization")) is not None:
        lines += [
            filled(
                "It was quantized to {quantization} while the adapter was trained and evaluated; with the "
                "original weights, answers may differ.",
                quantization=code(str(quantization)),
            ),
            "",
        ]
    if not facts.has_run:
        settings_known = [row for row in _settings(facts) if row[0] in OF_ADAPTER]
        lines += [f"## {filled('Adapter')}", "", *table(_heads(), settings_known), ""]
        lines += [
            filled(
                "This card was written without the run that trained the adapter, "
                "so nothing more is known about its training."
            ),
            "",
        ]
        return [*lines, *_versions(facts)]
    lines += [
        f"## {filled('Data')}",
        "",
        filled(
            "{rows} rows, split with seed {seed}; sha256 of the files:", rows=rows, seed=settings.split_seed
        ),
        "",
    ]
    lines += [f"- {code(file)}: {code(sha256)}" for file, sha256 in facts.files]
    if facts.languages:
        pairs = ", ".join(
            filled("{source} to {target}", source=source, target=target) for source, target in facts.languages
        )
        lines += ["", filled("Languages, as codes of the tokenizer: {pairs}.", pairs=pairs)]
    if settings.source_prefix:
        lines += [
            "",
            filled(
                "Every source was written as {prefix}; write yours in the same way.",
                prefix=code(settings.source_prefix),
            ),
        ]
    lines += [
        "",
        f"## {filled('Training')}",
        "",
        *table(_heads(), _settings(facts)),
        "",
        _best(facts),
        "",
    ]
    return [*lines, *_versions(facts)]


def _heads() -> tuple[str, str]:
    return filled("setting"), filled("value")


def _versions(facts: Facts) -> list[str]:
    heading = f"## {filled('Versions')}"
    lines = [heading, "", ", ".join(f"{name} {number}" for name, number in facts.versions.items()), ""]
    if facts.flag_matters_before and not facts.flag_matters:
        lines += [
            filled(
                "With transformers 5 before {version}, set {line} after loading; otherwise it scales the "
                "logits, and only greedy answers are correct.",
                version=facts.flag_matters_before,
                line=code("model.config.tie_word_embeddings = False"),
            ),
            "",
        ]
    return lines


def _settings(facts: Facts) -> list[tuple[str, str]]:
    lora, training = facts.experiment.lora, facts.experiment.training
    length = filled("{num_epochs:g} epochs", num_epochs=training.num_train_epochs)
    batch = f"{training.per_device_train_batch_size} × {training.gradient_accumulation_steps}"
    return [
        ("r", str(lora.r)),
        (
            "lora_alpha",
            filled("{alpha:g} (ΔW is scaled by {scaling:g})", alpha=lora.lora_alpha, scaling=lora.scaling),
        ),
        ("lora_dropout", f"{lora.lora_dropout:g}"),
        *((key, _shown(value)) for key, value in lora.variant.items()),
        ("target_modules", ", ".join(facts.target_modules)),
        ("learning_rate", f"{training.learning_rate:g}, {training.lr_scheduler_type}"),
        ("warmup_steps", f"{training.warmup_steps:g}"),
        (
            filled("length"),
            length
            if training.max_steps is None
            else filled("{num_steps} steps", num_steps=training.max_steps),
        ),
        (filled("batch size × accumulation"), batch),
        ("weight_decay", f"{training.weight_decay:g}"),
        ("max_source_length, max_target_length", _lengths(facts.recipe)),
        ("seed", str(facts.experiment.seed)),
    ]


def _shown(value: object) -> str:
    is_names = isinstance(value, list) and all(isinstance(each, str) for each in value)
    return ", ".join(value) if is_names else shown_value(value)  # type: ignore[arg-type]


def _lengths(recipe: Recipe) -> str:
    return f"{recipe.data.max_source_length}, {recipe.data.max_target_length}"


def _best(facts: Facts) -> str:
    step, figure = facts.origin.get("best_step"), facts.origin.get("best_metric")
    if figure is None:
        return filled("These are the weights after step {step}; no evaluation selected them.", step=step)
    metric = facts.origin.get("metric_for_best_model")
    return filled(
        "Of all evaluations, the one at step {step} was best: {metric} {figure:.4f} on the {num_rows} eval "
        "rows. This checkpoint was selected on these rows, so the figure is optimistic.",
        step=step,
        metric=metric,
        figure=figure,
        num_rows=facts.num_rows["eval"],
    )


def python_block(text: str) -> str:
    """Return Python code as a fenced block of Markdown."""
    return f"```python\n{text}```"


def code(text: str) -> str:
    """Format text as inline code on one line, even if it contains a backtick."""
    flat = " ".join(text.split())
    return f"`` {flat} ``" if "`" in flat else f"`{flat}`"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a Markdown table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return [f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines]


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
