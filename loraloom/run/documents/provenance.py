"""provenance.json: versions, data, base, seeds, and every automatic choice with its reason."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Self

from pydantic import AfterValidator, Field, JsonValue

from loraloom.run.documents.choice import Choice
from loraloom.run.documents.document import Document, Integer, JsonObject, Part, Printable
from loraloom.run.documents.prediction import Prediction
from loraloom.text.message import Message

DTYPES = ("float32", "bfloat16")


def _usable(choices: dict[str, Choice]) -> dict[str, Choice]:
    """Refuse choices that a resumed run could not use."""
    for key in ("threads", "pass_tokens", "pass_limit"):
        text = choices[key].value if key in choices else "1"
        if not text.isascii() or not text.isdigit() or not 0 < int(text) <= 2**31:
            raise ValueError(f"{key}: a count above 0 is needed")
    if "dtype" in choices and choices["dtype"].value not in DTYPES:
        raise ValueError(f"dtype: {' or '.join(DTYPES)} is needed")
    return choices


class BaseIdentity(Part):
    """The base that a run was trained on.

    Args:
        name: its name in the recipe; of a local path, only the last part.
        fingerprint, tokenizer_fingerprint: fingerprints of its weights and its vocabulary.
        head_is_tied: whether the output head and the embedding share their weights.
        commit: commit of its files on the hub; None for a local folder.
    """

    name: str
    fingerprint: str
    tokenizer_fingerprint: str
    head_is_tied: bool | None = None
    commit: str | None = None


class ProcessRecord(Part):
    """A process that worked on the run, with the versions of Python and of the packages that it used.

    Args:
        processes: number of processes that trained together; None means one.
    """

    started: str
    versions: dict[str, str]
    platform: str = ""
    processes: Integer | None = None


class SearchRequest(Part):
    """What a search was asked to do; when the search is resumed, the request must be the same.

    Args:
        space: key → choices or range.
        trials: number of trials.
        sampler: name of the sampler.
        halving: whether to stop the worse half of the trials early.
    """

    space: dict[str, JsonValue]
    trials: Integer
    sampler: str
    halving: bool


class Provenance(Document):
    """How a run came about: what it was started with, and what was chosen for it.

    Args:
        started: time at which it was started, with time zone.
        folder: the folder that the recipe's relative paths start from.
        versions: versions of Python and of every package that a result depends on.
        data: sha256 of each data file, by name.
        retain: sha256 of the file of `data.retain`, or of several files by name; None if it is not set.
        seeds: seed of each experiment.
        allowed: checks whose errors the user allows.
        choices: automatic choices; empty until the base has been loaded.
        base: the base; None until it has been loaded.
        waves: the experiments that train together; None until that is decided.
        plan: predicted resources of the training run; a plan of another version is kept unchanged.
        search: the request, if the run is a search.
        together: number of trials of a search that train at the same time.
        sessions: every process that worked on the run; None if it was never resumed.
        processes: number of processes that trained together at the start; None means one.
    """

    started: str
    folder: Printable
    versions: dict[str, str]
    platform: str = ""
    data: dict[str, str] = Field(default_factory=dict)
    retain: str | dict[str, str] | None = None
    seeds: dict[str, Integer]
    allowed: list[str] = Field(default_factory=list)
    choices: Annotated[dict[str, Choice], AfterValidator(_usable)]
    base: BaseIdentity | None = None
    waves: list[list[str]] | None = None
    plan: Annotated[Prediction | JsonValue, Field(union_mode="left_to_right")] = None
    search: SearchRequest | None = None
    together: Integer | None = None
    sessions: Annotated[list[ProcessRecord], Field(min_length=1)] | None = None
    processes: Integer | None = None

    @property
    def prediction(self) -> Prediction | None:
        """Predicted resources of the training run; None if unknown or written by another version."""
        return self.plan if isinstance(self.plan, Prediction) else None

    @property
    def decided(self) -> dict[str, str]:
        """The value of each automatic choice."""
        return {key: choice.value for key, choice in self.choices.items()}

    @property
    def pass_limit(self) -> int | None:
        """Maximum number of tokens in a pass, according to the predicted memory; None for no limit."""
        return int(self.choices["pass_limit"].value) if "pass_limit" in self.choices else None

    @property
    def newest_process(self) -> ProcessRecord:
        """The latest process that worked on the run."""
        return self.sessions[-1] if self.sessions else self._first_process

    @property
    def _first_process(self) -> ProcessRecord:
        first = ProcessRecord(started=self.started, versions=self.versions, platform=self.platform)
        return first if self.processes is None else first.model_copy(update={"processes": self.processes})

    def allowing(self, checks: Collection[str]) -> Self:
        """Return the provenance with these checks added to those whose errors the user allows."""
        return self.replaced(allowed=sorted({*self.allowed, *checks}))

    def with_process(self, process: ProcessRecord) -> Self:
        """Return the provenance with this process added to `sessions`, after the one that started the run."""
        return self.replaced(sessions=[*(self.sessions or [self._first_process]), process])

    def version_changes(self, process: ProcessRecord) -> list[str]:
        """Describe versions that changed since the previous process: `torch 2.11.0, previously 2.13.0`."""
        before = self.newest_process.versions
        return [
            Message("{name} {own}, previously {before}", name=name, own=own, before=before.get(name, "none"))
            for name, own in process.versions.items()
            if before.get(name) != own
        ]

    @property
    def processes_change(self) -> str:
        """A note such as `processes: 2, previously 1` if the last resume changed the number; else ""."""
        counts = [each.processes or 1 for each in self.sessions or []]
        if len(counts) < 2 or counts[-1] == counts[-2]:
            return ""
        return Message("processes: {now}, previously {before}", now=counts[-1], before=counts[-2])

    def to_json(self) -> JsonObject:
        """Return the file's content."""
        plan = {} if self.prediction is None else {"plan": self.prediction.to_json()}
        return super().to_json() | plan
