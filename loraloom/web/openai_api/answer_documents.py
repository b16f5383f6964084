"""Conversion of the model process's events to responses in OpenAI's format, complete or streamed."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from loraloom.serving.job import JobError
from loraloom.serving.open_request import Answering
from loraloom.text.message import Message
from loraloom.web.error_document import error_document

REQUEST_SECONDS = 600.0


@dataclass
class Answer:
    """An answer, as far as it has been generated.

    Args:
        text: text generated so far.
        reason: why it ended: `stop` or `length`; "" while it continues.
        logprobs: log-probabilities of its tokens, if requested.
        num_tokens, num_source_tokens: number of tokens in the answer and in its prompt.
    """

    text: str = ""
    reason: str = ""
    logprobs: list[dict[str, Any]] = field(default_factory=list)
    num_tokens: int = 0
    num_source_tokens: int = 0

    def add(self, event: dict[str, Any]) -> None:
        """Add the new text, tokens and log-probabilities of an event."""
        self.text += event["text"]
        self.reason = event["reason"]
        self.num_tokens, self.num_source_tokens = event["num_tokens"], event["num_source_tokens"]
        if event["logprob"] is not None:
            self.logprobs.append(event["logprob"])


async def collect(answering: Answering, num_answers: int) -> list[Answer]:
    """Wait for all answers to one prompt.

    Raises:
        JobError: the prompt cannot be answered.
    """
    answers = [Answer() for _ in range(num_answers)]
    async for event in events_of(answering, num_answers):
        answers[event["answer"]].add(event)
    return answers


async def events_of(answering: Answering, num_answers: int) -> AsyncIterator[dict[str, Any]]:
    """Yield a request's events until all its answers have ended; if iteration stops early, stop generating.

    Raises:
        JobError: the request cannot be answered, or not in time.
    """
    num_open = num_answers
    deadline = asyncio.get_running_loop().time() + REQUEST_SECONDS
    try:
        while num_open:
            # Not around the whole loop: it would cancel a task that waits for its client to read.
            async with asyncio.timeout_at(deadline):
                event = await answering.next()
            num_open -= bool(event["reason"])
            yield event
        answering.close(is_answered=True)
    except TimeoutError:
        raise JobError(
            503,
            "too_slow",
            Message("the answer took too long; try again later, or with a smaller `max_tokens`"),
        ) from None
    finally:
        answering.close()


def usage(answers: Sequence[Sequence[Answer]]) -> dict[str, int]:
    """Return the total numbers of tokens in the prompts and in the answers, with the keys of `Usage`."""
    num_prompt = sum(own[0].num_source_tokens for own in answers)
    num_completion = sum(answer.num_tokens for own in answers for answer in own)
    return {
        "prompt_tokens": num_prompt,
        "completion_tokens": num_completion,
        "total_tokens": num_prompt + num_completion,
    }


class CompletionForm:
    """Builds the JSON documents of responses to /v1/completions.

    Args:
        id, model: id of the response, and name of the model that the request asked for.
    """

    kind = chunk_kind = "text_completion"

    def __init__(self, id: str, model: str) -> None:
        self._id, self._model, self._created = id, model, int(time.time())

    def document(self, choices: Sequence[dict[str, Any]], **more: Any) -> dict[str, Any]:
        """Return the JSON document of a complete response; `more` holds additional keys."""
        return self._filled(self.kind, choices, more)

    def chunk(self, choices: Sequence[dict[str, Any]], **more: Any) -> dict[str, Any]:
        """Return the JSON document for one chunk of a stream; `more` holds additional keys."""
        return self._filled(self.chunk_kind, choices, more)

    def _filled(self, kind: str, choices: Sequence[dict[str, Any]], more: Any) -> dict[str, Any]:
        return {
            "id": self._id,
            "object": kind,
            "created": self._created,
            "model": self._model,
            "choices": list(choices),
            **more,
        }

    def choice(self, index: int, answer: Answer, *, has_logprobs: bool) -> dict[str, Any]:
        """Return the entry of `choices` for a complete answer."""
        logprobs = self.logprobs(answer.logprobs) if has_logprobs else None
        return {"index": index, "text": answer.text, "logprobs": logprobs, "finish_reason": answer.reason}

    def delta(self, index: int, event: dict[str, Any], *, is_first: bool) -> dict[str, Any]:
        """Return the entry of `choices` for the new part of an answer."""
        logprobs = None if event["logprob"] is None else self.logprobs([event["logprob"]])
        reason = event["reason"] or None
        return {"index": index, "text": event["text"], "logprobs": logprobs, "finish_reason": reason}

    def logprobs(self, tokens: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Return the log-probabilities of tokens in the format of /v1/completions."""
        offsets, position = [], 0
        for token in tokens:
            offsets.append(position)
            position += len(token["token"])
        return {
            "tokens": [token["token"] for token in tokens],
            "token_logprobs": [token["logprob"] for token in tokens],
            "top_logprobs": [dict(token["top"]) for token in tokens],
            "text_offset": offsets,
        }


class ChatForm(CompletionForm):
    """Builds the JSON documents of responses to /v1/chat/completions."""

    kind, chunk_kind = "chat.completion", "chat.completion.chunk"

    def choice(self, index: int, answer: Answer, *, has_logprobs: bool) -> dict[str, Any]:
        """Return the entry of `choices` for a complete answer."""
        return {
            "index": index,
            "message": {"role": "assistant", "content": answer.text, "refusal": None},
            "logprobs": self.logprobs(answer.logprobs) if has_logprobs else None,
            "finish_reason": answer.reason,
        }

    def delta(self, index: int, event: dict[str, Any], *, is_first: bool) -> dict[str, Any]:
        """Return the entry of `choices` for the new part of an answer."""
        role = {"role": "assistant"} if is_first else {}
        return {
            "index": index,
            "delta": {**role, "content": event["text"]},
            "logprobs": None if event["logprob"] is None else self.logprobs([event["logprob"]]),
            "finish_reason": event["reason"] or None,
        }

    def logprobs(self, tokens: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Return the log-probabilities of tokens in the format of /v1/chat/completions."""
        return {"content": [self._token(token) for token in tokens], "refusal": None}

    def _token(self, token: dict[str, Any]) -> dict[str, Any]:
        top = [
            {"token": text, "logprob": value, "bytes": list(text.encode())} for text, value in token["top"]
        ]
        own = token["token"]
        return {"token": own, "logprob": token["logprob"], "bytes": list(own.encode()), "top_logprobs": top}


async def stream(
    form: CompletionForm, answerings: Sequence[Answering], num_answers: int, *, has_usage: bool
) -> AsyncIterator[bytes]:
    """Yield the answers to prompts as server-sent events, as they are generated."""
    answers = [[Answer() for _ in range(num_answers)] for _ in answerings]
    queue: asyncio.Queue[tuple[int, dict[str, Any] | JobError | None]] = asyncio.Queue(maxsize=64)

    async def follow(number: int, answering: Answering) -> None:
        try:
            async for event in events_of(answering, num_answers):
                await queue.put((number, event))
            await queue.put((number, None))
        except JobError as error:
            await queue.put((number, error))

    async with asyncio.TaskGroup() as tasks:
        followers = [tasks.create_task(follow(*each)) for each in enumerate(answerings)]
        num_open = len(followers)
        while num_open:
            number, event = await queue.get()
            if isinstance(event, JobError):
                yield _sent(error_document(event.status, event.code, event.message, event.param))
                for follower in followers:
                    follower.cancel()
                return
            if event is None:
                num_open -= 1
                continue
            own = answers[number][event["answer"]]
            is_first = own.num_tokens == 0 and not own.text
            own.add(event)
            index = number * num_answers + event["answer"]
            yield _sent(form.chunk([form.delta(index, event, is_first=is_first)]))
    if has_usage:
        yield _sent(form.chunk([], usage=usage(answers)))
    yield b"data: [DONE]\n\n"


def _sent(document: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(document, ensure_ascii=False).encode() + b"\n\n"
