"""A comparison as the report needs it: verdicts, figures, answers, and cautions."""

from __future__ import annotations

from dataclasses import dataclass, field

from pydantic import JsonValue

from loraloom.recipe.schema import UNQUANTIZED
from loraloom.run.documents.comparison import BASE_NAME, CLEAR, Difference, Movement
from loraloom.text.message import Message, joined
from loraloom.text.units import counted, signed

# With fewer rows, an interval from resampling them is itself uncertain.
FEW_ROWS = 30
MOST_NAMED = 4
DID_NOTHING = "did nothing"

STALE = Message(
    "Training continued after this comparison, so its answers may come from earlier states of the adapters, "
    "and there is no recommendation. Run `loraloom compare` again to compare the current adapters."
)


@dataclass(frozen=True)
class ExperimentVerdict:
    """The effect of one experiment, in a word and in a sentence."""

    experiment: str
    word: str
    sentence: str


@dataclass(frozen=True)
class AnsweredRow:
    """A row and the answers of all models.

    Args:
        number: number from 1, in the order of the comparison.
        answers: answers by model, including the base.
        changed: models whose answer differs from the base's.
    """

    number: int
    source: str
    reference: str | None
    answers: dict[str, str]
    changed: list[str]


@dataclass(frozen=True)
class LanguagePairView:
    """Figures of one language pair, and their differences from the base.

    Args:
        num_rows: number of rows with a known answer.
        figures: experiment → figure → value, the mean over seeds; `retain_loss` is the loss on `data.retain`.
        differences: experiment → figure → difference from the base.
    """

    num_rows: int
    figures: dict[str, dict[str, float]]
    differences: dict[str, dict[str, Difference]]


@dataclass(frozen=True)
class ComparisonView:
    """A comparison as the report shows it.

    Args:
        name: name of its file, without the suffix.
        what: the rows that were answered: `test`, `eval` or `prompts`.
        num_judged: number of rows that the figures cover: those with a known answer, or all if none has
            one.
        took_part_in_a_choice: whether these rows also selected the checkpoints.
        verdicts: one for each experiment; those that did nothing first, the others best first.
        recommendation: a sentence on which experiment to use, if any; empty if there are no references.
        recommended: the recommended experiment; None if the rows do not decide which one to use.
        ranking: the experiments, best first.
        groups: experiment → its adapters, one per seed; the base is a group of its own.
        figures: experiment → figure → value, the mean over seeds.
        deviations: experiment → figure → standard deviation over seeds, if there are several.
        intervals: experiment → figure → the ends of the 95 % interval of its value.
        differences: experiment → figure → difference from the base.
        pairs: differences in chrF between experiments.
        movement: adapter → how far it moved the base's weights.
        signatures: figure → how it was computed.
        languages: language pairs with their figures; empty unless the base is multilingual.
        quantization: how the base of all models was quantized; `none` if it was not.
        is_stale: whether training continued afterwards, so that the answers may come from earlier states of
            the adapters.
    """

    name: str
    what: str
    time: str
    num_rows: int
    num_judged: int
    num_truncated_sources: int
    took_part_in_a_choice: bool
    verdicts: list[ExperimentVerdict]
    recommendation: str
    recommended: str | None
    ranking: list[str]
    groups: dict[str, list[str]]
    figures: dict[str, dict[str, float]]
    deviations: dict[str, dict[str, float]]
    intervals: dict[str, dict[str, tuple[float, float]]]
    differences: dict[str, dict[str, Difference]]
    pairs: list[Difference]
    movement: dict[str, Movement]
    signatures: dict[str, str]
    generation: dict[str, JsonValue]
    rows: list[AnsweredRow]
    quantization: str = UNQUANTIZED
    is_stale: bool = False
    languages: dict[str, LanguagePairView] = field(default_factory=dict)

    @property
    def columns(self) -> list[str]:
        """The columns: the base, then the experiments, best first."""
        return [BASE_NAME, *self.ranking]

    @property
    def experiments(self) -> list[str]:
        """All compared experiments, in the order of the recipe."""
        return [group for group in self.groups if group != BASE_NAME]

    @property
    def models(self) -> list[str]:
        """All models that answered: the base, then every adapter."""
        return [model for models in self.groups.values() for model in models]

    @property
    def adapters(self) -> list[str]:
        """All models except the base."""
        return [model for model in self.models if model != BASE_NAME]

    @property
    def basis(self) -> str:
        """A sentence about the rows that the figures are based on, and how reliable this makes them."""
        if self.what == "prompts":
            num: str = counted(self.num_rows, "row")
            if self.num_judged < self.num_rows:
                num = Message("{num_judged:,} of {num}", num_judged=self.num_judged, num=num)
                return Message(
                    "These figures are based on {num} given as prompts, namely those with a known answer.",
                    num=num,
                )
            return Message(
                "These figures are based on {num} given as prompts, which were not used to select "
                "checkpoints.",
                num=num,
            )
        rows = Message.counting(
            "{count:,} {what} row", "{count:,} {what} rows", count=self.num_rows, what=self.what
        )
        if self.took_part_in_a_choice:
            return Message(
                "These figures are based on {rows}, which also selected the checkpoints, so "
                "the figures are optimistic. Rows in `data.test` are never used for selection.",
                rows=rows,
            )
        return Message(
            "These figures are based on {rows}, which were not used to select checkpoints.", rows=rows
        )

    @property
    def significance(self) -> str:
        """A sentence on which differences between experiments are significant; "" if no two were compared."""
        luck = [pair for pair in self.pairs if pair.verdict not in CLEAR]
        num_clear = len(self.pairs) - len(luck)
        if not self.pairs:
            return ""
        named = joined(
            "; ",
            (
                Message("{model} and {against}", model=pair.model, against=pair.against)
                for pair in luck[:MOST_NAMED]
            ),
        )
        more = (
            Message("; and {num_luck} more", num_luck=len(luck) - MOST_NAMED)
            if len(luck) > MOST_NAMED
            else ""
        )
        said = Message.counting(
            "Of {pairs} in chrF between experiments, {count} is significant",
            "Of {pairs} in chrF between experiments, {count} are significant",
            count=num_clear,
            pairs=Message.counting("{count} difference", "{count} differences", count=len(self.pairs)),
        )
        return (
            Message("{said}; not between {named}{more}.", said=said, named=named, more=more)
            if luck
            else Message("{said}.", said=said)
        )

    @property
    def cautions(self) -> list[str]:
        """The cautions that readers should keep in mind when interpreting the figures."""
        found: list[str] = [STALE] if self.is_stale else []
        if self.quantization != UNQUANTIZED:
            found.append(
                Message(
                    "All models answered on a base that is quantized to {quantization}. On the original "
                    "weights, which a merged model has, answers and figures may differ.",
                    quantization=self.quantization,
                )
            )
        if "retain_loss" in self.figures[BASE_NAME]:
            found.append(self._forgetting())
        if self.num_judged == 1:
            found.append(
                Message(
                    "The figures are based on a single row, so they say nothing about other rows, and the "
                    "intervals have no width."
                )
            )
        elif self.num_judged < FEW_ROWS:
            found.append(
                Message(
                    "With only {num_judged} rows, the intervals themselves are uncertain.",
                    num_judged=self.num_judged,
                )
            )
        if not self.signatures:
            found.append(Message("There are no references, so nothing here shows which answers are better."))
        if self.signatures:
            found.append(self._caution_about_seeds())
        if len(self.experiments) > 1 and self.signatures and not self.took_part_in_a_choice:
            found.append(
                Message(
                    "If you use this page to choose an experiment, the figures of that experiment become "
                    "optimistic."
                )
            )
        if self.num_truncated_sources:
            found.append(
                Message(
                    "{num_truncated_sources:,} of {num_rows:,} sources were truncated.",
                    num_truncated_sources=self.num_truncated_sources,
                    num_rows=self.num_rows,
                )
            )
        return found

    def _forgetting(self) -> str:
        """Describe the increase of the loss on `data.retain`, whose rows the verdicts do not cover."""
        base = self.figures[BASE_NAME]["retain_loss"]
        known = {name: self.figures[name].get("retain_loss") for name in self.experiments}
        rises = {name: loss - base for name, loss in known.items() if loss is not None}
        worst = sorted(rises, key=lambda name: -rises[name])[:MOST_NAMED]
        named = joined(
            ", ",
            (Message("{signed} with {name}", signed=signed(rises[name], 3), name=name) for name in worst),
        )
        which = Message("most of all ") if len(rises) > MOST_NAMED else ""
        return Message(
            "On `data.retain`, the base has a loss of {base:.3f}; an increase means "
            "forgetting: {which}{named}.",
            base=base,
            which=which,
            named=named,
        )

    def _caution_about_seeds(self) -> str:
        if len(self.adapters) == len(self.experiments):
            return Message(
                "Each experiment has one seed, so the intervals do not include variation between seeds."
            )
        return Message(
            "The intervals include variation between rows and between seeds; with few seeds, they are a "
            "little too narrow."
        )
