"""The routes of the API."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse

from loraloom.serving.job import Job, JobError, unknown_model
from loraloom.serving.model_process import ModelProcess
from loraloom.serving.open_request import Answering
from loraloom.text.message import Message
from loraloom.web.body_limit import Receive, Scope, Send
from loraloom.web.connected_client import while_connected
from loraloom.web.openai_api.allowed_adapters import allowed_folder, available_folders
from loraloom.web.openai_api.answer_documents import Answer, ChatForm, CompletionForm, collect, stream, usage
from loraloom.web.openai_api.api_errors import error_response, install_errors, unhealthy
from loraloom.web.openai_api.documents import (
    ERRORS,
    FIGURES,
    HEALTH,
    OF_ADAPTERS,
    OF_MODELS,
    OF_NEW_ADAPTER,
    AdapterList,
    ChatCompletion,
    Comparison,
    Completion,
    ModelDocument,
    ModelList,
    RemovedModel,
    answered,
    linked,
)
from loraloom.web.openai_api.loop_turns import Turns
from loraloom.web.openai_api.prometheus import Metrics
from loraloom.web.openai_api.request_bodies import (
    AdapterRequest,
    ChatRequest,
    CompareRequest,
    CompletionRequest,
    Generation,
    Sampling,
)

MakeJob = Callable[[int], Job]
STOPPING = Message("the server is stopping; send the request to another server, or try again later")
LOADING = Message("the model is being loaded; send the request again later")
ANSWERING = frozenset({"/v1/completions", "/v1/chat/completions", "/v1/compare"})
STOPPING_SECONDS, LOADING_SECONDS = 10, 2  # after which to try again
CLIENT_LEFT = 499  # as in nginx's logs; no client reads it


class Api:
    """The API, which passes requests to a model process.

    Args:
        model: the model process.
        adapters_root: folder whose adapters can be attached while the server runs; None for no adapters.
    """

    def __init__(self, model: ModelProcess, adapters_root: Path | None = None) -> None:
        self.model, self.adapters_root = model, adapters_root
        self.metrics = Metrics(model)
        self.is_stopping = False
        self._turns = Turns()
        self.app = self._application()
        self.counted = self.metrics.counting(self._unless_full)

    def _application(self) -> FastAPI:
        app = FastAPI(
            title="LoRALoom",
            version="1",
            description=Message("A base model and its LoRA adapters, served in the format of OpenAI's API."),
            docs_url=None,  # FastAPI's pages load scripts from other servers
            redoc_url=None,
            redirect_slashes=False,
            responses=ERRORS,
            generate_unique_id_function=lambda route: route.name,
        )
        install_errors(app)
        self._add_routes(app)
        return app

    def _add_routes(self, app: FastAPI) -> None:
        app.get("/health", responses=HEALTH, response_model=None)(self.health)
        app.head("/health", include_in_schema=False)(self.health)  # as monitoring tools request it
        app.get("/metrics", responses=FIGURES, response_class=PlainTextResponse)(self.show_metrics)
        app.get("/v1/models", response_model=ModelList, responses=linked(200, OF_MODELS))(self.list_models)
        app.get("/v1/models/{model}", response_model=ModelDocument)(self.show_model)
        app.post("/v1/completions", responses=answered(Completion), response_model=None)(self.complete)
        app.post("/v1/chat/completions", responses=answered(ChatCompletion), response_model=None)(self.chat)
        compared = answered(Comparison, is_streamed=False)
        app.post("/v1/compare", responses=compared, response_model=None)(self.compare)
        attach = linked(200, OF_ADAPTERS)
        app.get("/v1/adapters", response_model=AdapterList, responses=attach)(self.list_adapters)
        new = linked(201, OF_NEW_ADAPTER)
        app.post("/v1/adapters", status_code=201, response_model=ModelDocument, responses=new)(
            self.add_adapter
        )
        app.delete("/v1/adapters/{name}", response_model=RemovedModel)(self.remove_adapter)

    async def _unless_full(self, scope: Scope, receive: Receive, send: Send) -> None:
        """While the queue is full, refuse requests unread, to leave time for those already accepted."""
        is_costly = scope["type"] == "http" and scope["path"] in ANSWERING
        if is_costly:
            await self._turns.wait()
        if is_costly and self.model.is_full:
            scope["route"] = SimpleNamespace(path=scope["path"])  # for the metrics
            error = self.model.refuse()
            response = error_response(error.status, error.code, error.message, None, error.retry_after)
            await response(scope, receive, send)
            return
        await self.app(scope, receive, send)

    async def health(self) -> Response:
        """Report whether the server answers requests."""
        if self.is_stopping:
            return unhealthy("stopping", STOPPING_SECONDS)
        if not self.model.is_ready:
            return unhealthy("loading", LOADING_SECONDS)
        return JSONResponse({"status": "ok"})

    async def show_metrics(self) -> PlainTextResponse:
        """Return the server's metrics in Prometheus' text format."""
        return PlainTextResponse(self.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def list_models(self) -> dict[str, Any]:
        """List the base and the adapters."""
        self._check_loaded()
        return {"object": "list", "data": [self._model(name) for name in self.model.models]}

    async def show_model(self, model: str) -> dict[str, Any]:
        """Describe the base or an adapter."""
        self._check_loaded()
        if model not in self.model.models:
            raise unknown_model(model)
        return self._model(model)

    async def complete(self, request: Request, body: CompletionRequest) -> Response:
        """Answer prompts."""
        jobs = [self._job(body, body.decoding(body.logprobs), prompt=prompt) for prompt in body.prompts]
        form = CompletionForm(f"cmpl-{secrets.token_hex(12)}", body.model)
        return await self._answer(request, body, form, jobs, has_logprobs=body.logprobs is not None)

    async def chat(self, request: Request, body: ChatRequest) -> Response:
        """Answer the last message of a conversation."""
        turns = tuple(message.as_turn() for message in body.messages)
        jobs = [self._job(body, body.decoding(body.num_logprobs), messages=turns)]
        form = ChatForm(f"chatcmpl-{secrets.token_hex(12)}", body.model)
        return await self._answer(request, body, form, jobs, has_logprobs=bool(body.logprobs))

    async def compare(self, request: Request, body: CompareRequest) -> Response:
        """Answer one prompt with all models, or only with those that the request names, in one batch."""
        self._check_running()
        names = list(dict.fromkeys(body.models or self.model.models))
        jobs = [
            self._job(body, body.decoding(), model=name, prompt=body.prompt, num_answers=1) for name in names
        ]
        answerings = await self._submit(jobs)
        answers = await while_connected(request, _all_answers(answerings, 1))
        if answers is None:
            return Response(status_code=CLIENT_LEFT)
        described = {
            name: {
                "text": own[0].text,
                "finish_reason": own[0].reason,
                "completion_tokens": own[0].num_tokens,
            }
            for name, own in zip(names, answers, strict=True)
        }
        document = {"object": "comparison", "created": int(time.time()), "answers": described}
        return JSONResponse({**document, "usage": usage(answers)})

    async def list_adapters(self) -> dict[str, Any]:
        """List the adapters that are attached, and the folders of those that can be attached."""
        self._check_loaded()
        attached = [name for name in self.model.models if name != "base"]
        folders = await asyncio.to_thread(available_folders, self.adapters_root)
        return {"object": "list", "data": attached, "available": list(folders)}

    async def add_adapter(self, body: AdapterRequest) -> dict[str, Any]:
        """Attach an adapter; requests that are under way continue."""
        self._check_running()
        folder = await asyncio.to_thread(allowed_folder, self.adapters_root, body.folder)
        await self.model.add(body.name, str(folder))
        return self._model(body.name)

    async def remove_adapter(self, name: str) -> dict[str, Any]:
        """Remove an adapter; requests for it that are under way are still answered."""
        self._check_running()
        await self.model.remove(name)
        return {"id": name, "object": "model", "deleted": True}

    async def _answer(
        self,
        request: Request,
        body: Generation,
        form: CompletionForm,
        jobs: list[MakeJob],
        *,
        has_logprobs: bool,
    ) -> Response:
        answerings = await self._submit(jobs)
        if body.stream:
            await _accepted(answerings)
            has_usage = body.stream_options is not None and body.stream_options.include_usage
            sent = stream(form, answerings, body.n, has_usage=has_usage)
            return _Stream(sent, answerings)
        answers = await while_connected(request, _all_answers(answerings, body.n))
        if answers is None:
            return Response(status_code=CLIENT_LEFT)
        flat = [answer for own in answers for answer in own]
        choices = [form.choice(i, answer, has_logprobs=has_logprobs) for i, answer in enumerate(flat)]
        return JSONResponse(form.document(choices, usage=usage(answers)))

    async def _submit(self, jobs: Sequence[MakeJob]) -> list[Answering]:
        """Send jobs to the model process; if one is refused, cancel those already sent."""
        self._check_running()
        if len(jobs) > self.model.max_waiting:  # such a request would be refused at any time
            message = Message(
                "a request can have at most {limit} prompts or models, because the queue has {limit} places",
                limit=self.model.max_waiting,
            )
            raise JobError(422, "unprocessable", message)
        answerings: list[Answering] = []
        try:
            for job in jobs:
                answerings.append(await self.model.submit(job))
        except BaseException:
            for answering in answerings:
                answering.close()
            raise
        return answerings

    def _job(self, body: Sampling, decoding: Any, **own: Any) -> MakeJob:
        if isinstance(body, Generation):
            own = {"model": body.model, "num_answers": body.n, "is_streamed": body.stream, **own}
        job = Job(0, decoding=decoding, source_lang=body.source_lang, target_lang=body.target_lang, **own)
        return lambda id: replace(job, id=id)

    def _check_running(self) -> None:
        if self.is_stopping:
            raise JobError(503, "stopping", STOPPING, retry_after=STOPPING_SECONDS)
        self._check_loaded()

    def _check_loaded(self) -> None:
        if not self.model.was_ready:
            raise JobError(503, "model_not_ready", LOADING, retry_after=LOADING_SECONDS)

    def _model(self, name: str) -> dict[str, Any]:
        return {"id": name, "object": "model", "created": int(self.model.started), "owned_by": "loraloom"}


class _Stream(StreamingResponse):
    """A response of server-sent events that always closes its requests to the model process when it ends."""

    def __init__(self, sent: Any, answerings: Sequence[Answering]) -> None:
        super().__init__(sent, media_type="text/event-stream")
        self._answerings = answerings

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            for answering in self._answerings:
                answering.close()


async def _accepted(answerings: Sequence[Answering]) -> None:
    """Wait until all requests are known to be valid.

    Raises:
        JobError: a request is invalid; all of them are closed.
    """
    try:
        for answering in answerings:
            await answering.next()
    except BaseException:
        for answering in answerings:
            answering.close()
        raise


async def _all_answers(answerings: Sequence[Answering], num_answers: int) -> list[list[Answer]]:
    try:
        return [await collect(answering, num_answers) for answering in answerings]
    finally:
        for answering in answerings:
            answering.close()
