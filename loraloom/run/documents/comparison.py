"""compare/<name>.json: what base and adapters answered to the same rows, and what that comes to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from pydantic import ConfigDict, Field, JsonValue

from loraloom.recipe.values import UNQUANTIZED
from loraloom.run.documents.document import Document, Integer, Part, Text, to_stored_json

FORMAT = 1
BASE_NAME = "base"
# What experiments are ranked by, and asked in pairs about.
DECIDING = "chrf"
# The verdicts of a difference that is more than luck, if one of the two is to be preferred.
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
    """One model against another in one figure, over the same rows.

    Args:
        model, against: which models; of experiments with several seeds, all of these together.
        metric: which figure.
        difference: model minus against, over all rows.
        low, high: the interval that holds it with 95 % confidence.
        p_value: of no difference, two-sided; corrected if several were asked at once.
        verdict: in words; whether higher is better decides between better and worse.
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
        """The same, seen from the other side."""
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
    """‖ΔW‖ / ‖W‖ in the Frobenius norm.

    Args:
        total: over all adapted linears together.
        kinds: by part of the model and kind of linear, `{"decoder q": 0.013, …}`.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(allow_inf_nan=False)

    total: float
    kinds: dict[str, float]


class ModelRecord(Part):
    """One model of a comparison.

    Args:
        figures: by name, over the judged rows.
        movement: of its adapter; None for the base.
    """

    figures: dict[str, float]
    movement: Movement | None = None


class FigureInterval(Part):
    """A figure of an experiment with its 95 % interval.

    Args:
        mean: over its seeds.
        sd: the standard deviation over its seeds; None if there is one.
    """

    mean: float
    low: float
    high: float
    sd: float | None = None


class GroupRecord(Part):
    """An experiment, or the base.

    Args:
        models: of its seeds.
        figures: by name.
    """

    models: list[str] = Field(default_factory=list)
    figures: dict[str, FigureInterval]


class Recommendation(Part):
    """Which experiment to take, and why; None if the rows do not say."""

    experiment: str | None
    sentence: Text


class ComparedRow(Part):
    """A row, and what each model answered.

    Args:
        reference: the known answer; None if there is none.
        answers: by model, the base's among them.
        languages: its pair of languages, as in `Comparison.languages`; None if the base has none.
    """

    source: str
    reference: str | None
    answers: dict[str, str]
    languages: str | None = None


class LanguagePair(Part):
    """The rows of one pair of languages.

    Args:
        source_lang, target_lang: the codes of the tokenizer.
        num_rows: with a known answer; 0 if only rows of `data.retain` have this pair.
        figures: by model and name, over these rows.
        differences: of each experiment from the base, in the deciding figures.
        retain_losses: by model, on this pair's rows of `data.retain`.
    """

    source_lang: str
    target_lang: str
    num_rows: Integer
    figures: dict[str, dict[str, float]]
    differences: list[Difference]
    retain_losses: dict[str, float] | None = None


class Comparison(Document):
    """A comparison.

    Args:
        file: where it lies; not in the file.
        what: `test`, `eval` or `prompts`: which rows were answered.
        time: since when what an adapter learns is not in it.
        num_judged: rows that the figures are over: those with a known answer, if some have one.
        num_truncated_sources: that were cut to fit.
        took_part_in_a_choice: whether these rows also chose the checkpoints.
        sentences: what each experiment does, in the recipe's order.
        generation: how answers were made.
        quantization: how the base that all models share was quantized; `none` if it was not.
        models: by name, the base first.
        differences: each experiment against the base, in every figure.
        signatures: figure → how it was computed; empty if no row has a known answer.
        groups: the experiments' figures over their seeds.
        pairs: each experiment against each other in the deciding figure.
        ranking: the experiments, the best first.
        languages: of a multilingual base, each pair of languages, the one with most rows first.
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
        """Experiment → the models of its seeds, also if nothing could be judged."""
        return {name: group.models for name, group in self.groups.items()} or {
            name: [name] for name in self.models
        }

    def text(self) -> str:
        """The file's content."""
        return to_stored_json({key: value for key, value in self.to_json().items() if key != "file"})
