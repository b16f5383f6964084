"""A request for a model: a prompt, the model that answers it, and how its answer is decoded."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

from loraloom.errors import LoRALoomError, render
from loraloom.text.message import Message, from_data, to_data

# Limits of one request.
MAX_ANSWERS = 16
MAX_LOGPROBS = 20
MAX_STOPS = 8


@dataclass(frozen=True)
class Decoding:
    """How an answer is decoded; None stands for the setting in the run's recipe.

    Args:
        max_tokens: maximum length of an answer, without EOS.
        temperature: sampling temperature; 0 for greedy decoding.
        top_p, top_k: sample from only the most likely tokens: those that reach this total probability, and
            at most this number.
        num_beams: number of beams; more than 1 means beam search, which runs as a separate batch.
        seed: seed for sampling; without one, a repeated request gets different answers.
        stop: texts that end an answer; it ends before the first of them.
        logprobs: number of alternatives to report for each token; None for no log-probabilities.
    """

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    num_beams: int | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    logprobs: int | None = None


@dataclass(frozen=True)
class Job:
    """One prompt for one model.

    Args:
        id: number of the request, unique on this server.
        model: `base` or the name of an adapter.
        prompt: the text of the prompt; None if `messages` are given instead.
        messages: turns of a conversation, each with `role` and `content`.
        num_answers: number of answers to the prompt.
        decoding: how the answers are decoded.
        is_streamed: whether text is reported as it is generated.
        source_lang, target_lang: languages, for a multilingual base.
    """

    id: int
    model: str
    prompt: str | None = None
    messages: tuple[dict[str, str], ...] = ()
    num_answers: int = 1
    decoding: Decoding = field(default_factory=Decoding)
    is_streamed: bool = False
    source_lang: str | None = None
    target_lang: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the fields as a JSON object."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Job:
        """Read a JSON object that `to_json` returned."""
        decoding = {**value["decoding"], "stop": tuple(value["decoding"]["stop"])}
        return cls(**{**value, "messages": tuple(value["messages"]), "decoding": Decoding(**decoding)})


class JobError(Exception):
    """A request that cannot be answered.

    Args:
        status: HTTP status.
        code: error code, for programs.
        message: message, for people.
        param: the parameter concerned, if any.
        retry_after: seconds after which the same request may succeed.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        param: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message
        self.param, self.retry_after = param, retry_after

    def to_json(self) -> dict[str, Any]:
        """Return the fields as a JSON object."""
        return {
            "status": self.status,
            "code": self.code,
            "message": to_data(self.message),
            "param": self.param,
            "retry_after": self.retry_after,
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> JobError:
        """Read a JSON object that `to_json` returned."""
        return cls(
            value["status"],
            value["code"],
            from_data(value["message"]),
            param=value["param"],
            retry_after=value["retry_after"],
        )

    @classmethod
    def of(cls, error: LoRALoomError, param: str, *, where: str | None = None) -> JobError:
        """Convert an error about a prompt or an adapter; `where` replaces the place that the error names."""
        problems = (
            error.problems
            if where is None
            else tuple(replace(problem, where=where) for problem in error.problems)
        )
        return cls(422, "unprocessable", render(problems), param=param)


def unknown_model(name: str) -> JobError:
    """Return the error for a request that names a model that the server does not have."""
    message = Message("there is no model `{name}`; GET /v1/models lists them", name=name[:100])
    return JobError(404, "model_not_found", message, param="model")
