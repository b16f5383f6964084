"""compare/<name>.json: answers of base and adapters to the same rows, and the figures computed from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from pydantic import ConfigDict, Field, JsonValue

from loraloom.recipe.schema import UNQUANTIZED
from loraloom.run.documents.document import Document, Integer, Part, Text, to_stored_json

FORMAT = 1
BASE_NAME = "base"
# The figure by which experiments are ranked and compared in pairs.
DECIDING = "chrf"
# The verdicts on a significant difference in a figure for which higher or lower is better.
CLEAR = ("better", "worse")

DifferenceVerdict = Literal[
    "better", "worse", "higher", "lower", "no significant difference", "too few rows", "nothing changed"
]
_TURNED: Mapping[DifferenceVerdict, DifferenceVerdict] = {
    "better": "worse",
    "worse": "better",
    "higher": "lower",
    "lower": "higher",
}


@dataclass(frozen=True)
class Difference:
    """Comparison of two models by one figure, over the same rows.

    Args:
        model, against: the models; an experiment with several seeds counts as one model.
        metric: name of the figure.
        difference: `model` minus `against`, over all rows.
        low, high: the 95 % confidence interval of the difference.
        p_value: two-sided p-value for no difference; corrected if several differences were tested together.
        verdict: the result in words; `higher` or `lower` for a figure that has no better direction.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(allow_inf_nan=False)

    model: str
    against: str
    metric: str
    difference: float
    low: float
    high: float
    p_value: float
    verdict: DifferenceVerdict

    @property
    def turned(self) -> Difference:
        """The same difference with the two models exchanged."""
        return replace(
            self,
            model=self.against,
            against=self.model,
            difference=-self.difference,
            low=-self.high,
            high=-self.low,
            verdict=_TURNED.get(self.verdict, self.verdict),
        )


@dataclass(frozen=True)
class Movement:
    """The size of an adapter's update relative to the base: ‖ΔW‖ / ‖W‖ in the Frobenius norm.

    Args:
        total: movement of all adapted linears together.
        kinds: movement by part of the model and kind of linear, such as `{"decoder q": 0.013, …}`.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(allow_inf_nan=False)

    total: float
    kinds: dict[str, float]


class ModelRecord(Part):
    """One model of a comparison.

    Args:
        figures: figures by name, over the rows that `Comparison.num_judged` counts.
        movement: movement of its adapter; None for the base.
    """

    figures: dict[str, float]
    movement: Movement | None = None


class FigureInterval(Part):
    """A figure of an experiment, with its 95 % confidence interval.

    Args:
        mean: mean over its seeds.
        low, high: bounds of the interval.
        sd: standard deviation over its seeds; None if there is only one seed.
    """

    mean: float
    low: float
    high: float
    sd: float | None = None


class GroupRecord(Part):
    """An experiment with all its seeds, or the base.

    Args:
        models: names of its models, one for each seed.
        figures: figures by name, each averaged over the seeds.
    """

    models: list[str] = Field(default_factory=list)
    figures: dict[str, FigureInterval]


class Recommendation(Part):
    """The recommended experiment (None if the rows do not show which is best), and the reason."""

    experiment: str | None
    sentence: Text


class ComparedRow(Part):
    """A row, and the answer of each model.

    Args:
        reference: the known answer; None if there is none.
        answers: answers by model, including the base's.
        languages: its language pair, as in `Comparison.languages`; None if the base has no languages.
    """

    source: str
    reference: str | None
    answers: dict[str, str]
    languages: str | None = None


class LanguagePair(Part):
    """The rows of one language pair, and their figures.

    Args:
        source_lang, target_lang: the tokenizer's codes for the two languages.
        num_rows: number of rows with a known answer; 0 if only rows of `data.retain` have this pair.
        figures: figures by model and name, over these rows.
        differences: each experiment against the base, in the most important figures.
        retain_losses: losses by model, on this pair's rows of `data.retain`.
    """

    source_lang: str
    target_lang: str
    num_rows: Integer
    figures: dict[str, dict[str, float]]
    differences: list[Difference]
    retain_losses: dict[str, float] | None = None


class Comparison(Document):
    """A comparison of the base and the adapters on the same rows.

    Args:
        file: path of the file; not stored in it.
        what: the rows that were answered: `test`, `eval` or `prompts`.
        time: time of the comparison, which does not cover any later training of the adapters.
        num_judged: number of rows that the figures cover: those with a known answer, or all if none has one.
        num_truncated_sources: number of sources that were truncated.
        took_part_in_a_choice: whether these rows were also used to choose the checkpoints.
        sentences: the effect of each experiment, in the recipe's order.
        generation: settings with which answers were generated.
        quantization: how the base that all models share was quantized; `none` if it was not.
        models: models by name, the base first.
        differences: each experiment against the base, in every figure.
        signatures: figure → how it was computed; empty if no row has a known answer.
        groups: the experiments' figures over their seeds.
        pairs: each pair of experiments, compared by the figure that the ranking uses.
        ranking: the experiments, best first; None if no row has a known answer.
        languages: for a multilingual base, the language pairs, those with the most rows first.
    """

    FORMATS: ClassVar[tuple[int, ...]] = (FORMAT,)

    file: str = ""
    format: int
    what: str
    time: str
    num_rows: Integer
    num_judged: Integer | None = None
    num_truncated_sources: Integer
    took_part_in_a_choice: bool
    sentences: list[Text]
    generation: dict[str, JsonValue]
    quantization: str = UNQUANTIZED
    models: dict[str, ModelRecord]
    differences: list[Difference]
    signatures: dict[str, Text]
    groups: dict[str, GroupRecord] = Field(default_factory=dict)
    pairs: list[Difference] = Field(default_factory=list)
    ranking: list[str] | None = None
    recommendation: Recommendation | None = None
    languages: dict[str, LanguagePair] = Field(default_factory=dict)
    rows: list[ComparedRow]

    @property
    def models_of_groups(self) -> dict[str, list[str]]:
        """The models of each experiment and of the base; if nothing was judged, each model by itself."""
        return {name: group.models for name, group in self.groups.items()} or {
            name: [name] for name in self.models
        }

    def text(self) -> str:
        """Return the file's content."""
        return to_stored_json({key: value for key, value in self.to_json().items() if key != "file"})
