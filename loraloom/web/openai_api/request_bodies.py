"""Request bodies of the API, as clients of OpenAI's API send them; unknown keys are refused, not ignored."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from loraloom.serving.job import MAX_ANSWERS, MAX_LOGPROBS, MAX_STOPS, Decoding
from loraloom.text.message import Message

MAX_PROMPT_CHARACTERS = 200_000
MAX_PROMPTS = 64
MAX_MESSAGES = 256
MAX_STOP_CHARACTERS = 256
MAX_TOKENS = 4096
MAX_SEED = 2**63 - 1


def _only_false(value: bool) -> bool:
    if value:
        raise ValueError(Message("must be false"))
    return value


Name = Annotated[str, Field(min_length=1, max_length=256)]
Prompt = Annotated[str, Field(min_length=1, max_length=MAX_PROMPT_CHARACTERS)]
Content = Annotated[str, Field(max_length=MAX_PROMPT_CHARACTERS)]
Stop = Annotated[str, Field(min_length=1, max_length=MAX_STOP_CHARACTERS)]
Language = Annotated[str, Field(min_length=1, max_length=32)]
Zero = Annotated[float, Field(ge=0, le=0)]
Nothing = Annotated[list[Any], Field(max_length=0)]
# Not `Literal[False]` and `Literal[1]`, which take 0 and true too, because those are equal in Python.
No = Annotated[bool, AfterValidator(_only_false), Field(json_schema_extra={"const": False})]
One = Annotated[int, Field(ge=1, le=1)]


class Strict(BaseModel):
    """A request body that refuses unknown keys and does not convert types."""

    model_config = ConfigDict(extra="forbid", strict=True)


class StreamOptions(Strict):
    """Options of a stream, such as whether it ends with the token usage."""

    include_usage: bool = False
    include_obfuscation: No = False


class Sampling(Strict):
    """Settings that all requests for answers have in common.

    If a request leaves out a setting, the value in the section `generation` of the run's recipe applies.
    """

    max_tokens: Annotated[int, Field(ge=1, le=MAX_TOKENS)] | None = None
    temperature: Annotated[float, Field(ge=0, le=100)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    num_beams: Annotated[int, Field(ge=1, le=16)] | None = None
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] | None = None
    stop: Stop | Annotated[list[Stop], Field(max_length=MAX_STOPS)] | None = None
    source_lang: Language | None = None
    target_lang: Language | None = None

    def decoding(self, num_logprobs: int | None = None) -> Decoding:
        """Return the decoding settings of the request."""
        stop = [] if self.stop is None else [self.stop] if isinstance(self.stop, str) else self.stop
        return Decoding(
            max_tokens=self.max_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            num_beams=self.num_beams,
            seed=self.seed,
            stop=tuple(stop),
            logprobs=num_logprobs,
        )


class Generation(Sampling):
    """A request for answers from one model.

    `user`, `metadata`, `store` and `service_tier` have no effect on an answer, so they are accepted; some
    other keys of OpenAI's API are accepted only with a value that has no effect.
    """

    model: Name
    n: Annotated[int, Field(ge=1, le=MAX_ANSWERS)] = 1
    stream: bool = False
    stream_options: StreamOptions | None = None
    user: Annotated[str, Field(max_length=512)] | None = None
    metadata: dict[str, str] | None = None
    store: bool | None = None
    service_tier: Annotated[str, Field(max_length=64)] | None = None
    frequency_penalty: Zero | None = None
    presence_penalty: Zero | None = None
    logit_bias: Annotated[dict[str, float], Field(max_length=0)] | None = None


class CompletionRequest(Generation):
    """The body of POST /v1/completions."""

    prompt: Prompt | Annotated[list[Prompt], Field(min_length=1, max_length=MAX_PROMPTS)]
    logprobs: Annotated[int, Field(ge=0, le=MAX_LOGPROBS)] | None = None
    echo: No | None = None
    best_of: One | None = None

    @property
    def prompts(self) -> list[str]:
        """The prompts, each of which is answered `n` times."""
        return [self.prompt] if isinstance(self.prompt, str) else self.prompt


class TextPart(Strict):
    """A part of a message."""

    type: Literal["text"]
    text: Annotated[str, Field(max_length=MAX_PROMPT_CHARACTERS)]


class ChatMessage(Strict):
    """One turn of a conversation.

    OpenAI's client sends an answer back with all its keys, so keys that have no meaning here are allowed
    if they are empty. The text of an answer may be empty too, because a model may generate an empty answer.
    """

    role: Literal["system", "developer", "user", "assistant"]
    content: Content | Annotated[list[TextPart], Field(min_length=1, max_length=64)]
    name: Annotated[str, Field(max_length=256)] | None = None
    refusal: None = None
    audio: None = None
    function_call: None = None
    tool_calls: Nothing | None = None
    annotations: Nothing | None = None

    @field_validator("content")
    @classmethod
    def _only_answers_may_be_empty(cls, content: Any, info: ValidationInfo) -> Any:
        if content == "" and info.data.get("role", "assistant") != "assistant":
            raise ValueError(Message("must not be empty, except for an assistant's answer"))
        return content

    def as_turn(self) -> dict[str, str]:
        """Convert the message to the form of a conversation turn in a data file."""
        text = self.content if isinstance(self.content, str) else "".join(p.text for p in self.content)
        return {"role": "system" if self.role == "developer" else self.role, "content": text}


class TextFormat(Strict):
    """The form of an answer, which is always text."""

    type: Literal["text"]


class ChatRequest(Generation):
    """The body of POST /v1/chat/completions."""

    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=MAX_MESSAGES)]
    max_completion_tokens: Annotated[int, Field(ge=1, le=MAX_TOKENS)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_LOGPROBS)] | None = None
    tools: Nothing | None = None
    tool_choice: Literal["none"] | None = None
    response_format: TextFormat | None = None

    @model_validator(mode="after")
    def _one_limit(self) -> ChatRequest:
        if self.max_completion_tokens is not None:
            if self.max_tokens not in (None, self.max_completion_tokens):
                raise ValueError(Message("max_tokens and max_completion_tokens differ; give one of them"))
            self.max_tokens = self.max_completion_tokens
        if self.top_logprobs is not None and not self.logprobs:
            raise ValueError(Message("top_logprobs requires logprobs: true"))
        return self

    @property
    def num_logprobs(self) -> int | None:
        """Number of alternatives to report for each token; None for no log-probabilities."""
        return (self.top_logprobs or 0) if self.logprobs else None


class CompareRequest(Sampling):
    """The body of POST /v1/compare: one prompt, which several models answer in one batch."""

    prompt: Prompt
    models: Annotated[list[Name], Field(min_length=1, max_length=MAX_PROMPTS)] | None = None


class AdapterRequest(Strict):
    """The body of POST /v1/adapters; `folder` is one of those that GET /v1/adapters lists as available."""

    name: Name
    folder: Annotated[str, Field(min_length=1, max_length=1024)]
