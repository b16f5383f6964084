"""The model card of an adapter: its base, its data, its training, and code that loads it.

It contains only facts that identical trainings share: no times, no paths of this machine, no text of a row.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from loraloom.architectures.families import family_of
from loraloom.architectures.family import Family
from loraloom.base.supported_models import STARTER
from loraloom.data.formats.parquet import HUB_PREFIX
from loraloom.data.languages.codes import pairs_of_origin
from loraloom.data.sources.source_template import SourceTemplate
from loraloom.recipe import Experiment, GenerationSettings, Recipe
from loraloom.recipe.reading import read_run_recipe
from loraloom.run.documents.split import SplitRecord
from loraloom.run.folder import Run
from loraloom.training.language_code import begins_with_code, language_code

PARTS = ("train", "eval", "test")
PACKAGES = ("loraloom", "torch", "transformers", "peft")
PLACEHOLDER = "Your text here"
# Settings that an adapter's own folder contains.
OF_ADAPTER = ("r", "lora_alpha", "lora_dropout", "target_modules")


@dataclass(frozen=True)
class Facts:
    """The facts in a card.

    Args:
        recipe: of the run.
        experiment: the one whose adapter it is.
        origin: as in loraloom.json: base, fingerprints, best step and figure.
        target_modules: as in adapter_config.json.
        files: name and sha256 of each data file.
        num_rows: of train, eval and test.
        versions: of the packages.
        has_run: whether its run is available; if not, its training is unknown.
    """

    recipe: Recipe
    experiment: Experiment
    origin: Mapping[str, Any]
    target_modules: Sequence[str]
    files: Sequence[tuple[str, str]]
    num_rows: Mapping[str, int]
    versions: Mapping[str, str]
    has_run: bool = True

    @property
    def base(self) -> str:
        """The base's name, without a path of this machine."""
        return str(self.origin["base"])

    @property
    def family(self) -> Family | None:
        """Of the base."""
        return family_of(self.origin.get("model_type"))

    @property
    def languages(self) -> list[tuple[str, str]]:
        """The pairs of languages that it was trained on; of one of unknown training, those of the recipe."""
        source, target = self.recipe.data.source_lang, self.recipe.data.target_lang
        return pairs_of_origin(self.origin) or ([(source, target)] if source and target else [])

    @property
    def flag_matters(self) -> bool:
        """Whether transformers 5 scales the logits wrongly unless a flag is set after loading."""
        family = self.family
        return bool(family and family.flag_scales_logits) and self.origin.get("head_is_tied") is False


def read_facts(
    run: Run,
    name: str,
    origin: Mapping[str, Any],
    target_modules: Sequence[str],
    versions: Mapping[str, str] | None = None,
) -> Facts:
    """Read the facts of one adapter from its run's recipe.yaml and split.json.

    Raises:
        RunError: these cannot be read.
    """
    recipe = read_run_recipe(run.recipe_file)
    split = SplitRecord.read(run.split_file)
    return Facts(
        recipe=recipe,
        experiment=next(e for e in recipe.resolved_experiments if e.name == name),
        origin=origin,
        target_modules=target_modules,
        files=[(_portable(file), sha256) for file, sha256 in split.files.items()],
        num_rows=split.num_rows,
        versions=versions or {package: version(package) for package in PACKAGES},
    )


def _portable(file: str) -> str:
    return file if file.startswith(HUB_PREFIX) else Path(file).name


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
    return ["## Versions", "", ", ".join(f"{name} {number}" for name, number in facts.versions.items()), ""]


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


def peft_code(facts: Facts, adapter: str, comment: str) -> str:
    """Write Python that loads base and adapter with PEFT and answers."""
    base, imported = json.dumps(facts.base, ensure_ascii=False), ""
    if facts.base == STARTER:
        base, imported = "model_folder()", "from loraloom.starter import model_folder\n"
    return (
        "from peft import PeftModel\n"
        "from transformers import AutoModelForSeq2SeqLM, AutoTokenizer\n"
        f"{imported}\n"
        f"base = {base}\n"
        f"adapter = {json.dumps(adapter, ensure_ascii=False)}  # {comment}\n"
        "tokenizer = AutoTokenizer.from_pretrained(base)\n"
        f"model = AutoModelForSeq2SeqLM.from_pretrained(base{_attention(facts)})\n"
        f"{_flag_line(facts)}"
        "model = PeftModel.from_pretrained(model, adapter).eval()\n"
        f"{_answer_code(facts)}"
    )


def merged_code(facts: Facts, folder: str, comment: str) -> str:
    """Write Python that loads the merged model with plain transformers and answers."""
    return (
        "from transformers import AutoModelForSeq2SeqLM, AutoTokenizer\n\n"
        f"folder = {json.dumps(folder, ensure_ascii=False)}  # {comment}\n"
        "tokenizer = AutoTokenizer.from_pretrained(folder)\n"
        f"model = AutoModelForSeq2SeqLM.from_pretrained(folder{_attention(facts)}).eval()\n"
        f"{_flag_line(facts)}"
        f"{_answer_code(facts, is_in_config=True)}"
    )


def _attention(facts: Facts) -> str:
    """An argument, if transformers' choice is not always one that computes the model."""
    family = facts.family
    if family is None or family.attention == "sdpa":
        return ""
    return f', attn_implementation="{family.attention}"'


def _flag_line(facts: Facts) -> str:
    reason = "transformers 5 loads True, and would scale the logits by it"
    return f"model.config.tie_word_embeddings = False  # {reason}\n" if facts.flag_matters else ""


def _answer_code(facts: Facts, *, is_in_config: bool = False) -> str:
    template = SourceTemplate(facts.recipe.data.source_prefix)
    text = template.fill(dict.fromkeys(template.columns, PLACEHOLDER))
    text += "" if template.columns else PLACEHOLDER
    options = "" if is_in_config else f", {_options(facts.recipe.generation, bool(facts.languages))}"
    told, more = language_code(facts.languages, facts.origin, is_in_config=is_in_config)
    options += more
    return (
        told
        # transformers 4 gives token types with a tokenizer that does not say what its model takes.
        + f"inputs = tokenizer({json.dumps(text, ensure_ascii=False)}, "
        'return_tensors="pt", return_token_type_ids=False)\n'
        f"answer = model.generate(**inputs{options})\n"
        f"{_printing_code(facts)}"
    )


def _printing_code(facts: Facts) -> str:
    """Write how to print an answer: without special tokens, unless it was trained to contain some."""
    if not facts.origin.get("answer_tokens"):
        # Not every tokenizer takes the code of a language for a special token.
        text = "answer[0, 2:]" if begins_with_code(facts.languages, facts.origin) else "answer[0]"
        return f"print(tokenizer.decode({text}, skip_special_tokens=True))\n"
    start = "model.config.decoder_start_token_id"
    if facts.family is not None and not facts.family.ends_sources:
        start = "tokenizer.eos_token_id"  # its tokenizers begin texts with the start and end none
    return (
        "# skip_special_tokens would drop tokens that belong to the answer\n"
        f'ends = {{*tokenizer("").input_ids, tokenizer.pad_token_id, {start}}}\n'
        "print(tokenizer.decode([token for token in answer[0].tolist() if token not in ends]))\n"
    )


def _options(generation: GenerationSettings, states_beams: bool) -> str:
    """Return the recipe's generation settings as arguments of transformers' generate."""
    usual = GenerationSettings()
    chosen = {
        key: value
        for key, value in generation.model_dump(exclude={"batch_size"}).items()
        if key == "max_new_tokens" or (key == "num_beams" and states_beams) or value != getattr(usual, key)
    }
    return ", ".join(f"{key}={value!r}" for key, value in chosen.items())


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
