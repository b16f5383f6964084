"""Pages for comparing answers from the base and its adapters side by side, with blind votes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

from fastapi import APIRouter, HTTPException
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import Response

from loraloom.errors import LoRALoomError, RecipeError
from loraloom.recipe import GenerationSettings
from loraloom.recipe.reading import read_run_recipe
from loraloom.report.axes import colour
from loraloom.report.training_view import group_of
from loraloom.report.votes_view import VotesView, read_votes
from loraloom.run.documents.comparison import BASE_NAME
from loraloom.run.documents.votes import Vote
from loraloom.run.folder import Run, now
from loraloom.run.resuming import is_range_test
from loraloom.text.message import Message
from loraloom.web.pages.event_stream import event, event_stream
from loraloom.web.pages.questions import LONGEST_PROMPT, Question, Questions
from loraloom.web.pages.rendering import fragment, page, problems_of
from loraloom.web.pages.requests import NamedRun, OwnForm, field, page_of_run
from loraloom.web.pages.votes import add_vote

router = APIRouter()
POLL_SECONDS = 0.05
NO_DIFFERENCE = "none"


@router.get("/runs/{name}/compare")
def compare(request: Request, run: NamedRun) -> Response:
    """Show the form, and the votes so far."""
    settings, models, votes = GenerationSettings(), [], VotesView((), ())
    problems: list[str] = []
    try:
        recipe = read_run_recipe(run.recipe_file)
        settings = recipe.generation
        models = [BASE_NAME, *(each.name for each in recipe.resolved_experiments)]
        votes = read_votes(run)
    except LoRALoomError as error:
        problems = problems_of(error)
    if is_range_test(run):
        problems = [Message("A range test keeps no adapters, so there are no answers to compare.")]
    return page_of_run(
        request, run, "compare", settings=settings, models=models, votes=votes, problems=problems
    )


@router.post("/runs/{name}/ask")
async def ask(request: Request, run: NamedRun, form: OwnForm) -> Response:
    """Ask a question; respond with an HTML fragment that receives the stream of answers."""
    prompt = field(form, "prompt")
    try:
        _check_prompt(prompt)
        settings, seed = _settings(form), _whole(form, "seed", 0)
        models = [each for each in form.getlist("models") if isinstance(each, str)]
        question = await run_in_threadpool(
            lambda: _questions(request).ask(
                run,
                prompt,
                models=models,
                settings=settings,
                seed=seed,
                is_blind=field(form, "blind") == "true",
            )
        )
    except LoRALoomError as error:
        return page(request, "question_problems.html.j2", problems=problems_of(error))
    return page(
        request, "question.html.j2", question=question, run_name=run.folder.name, colours=_colours(question)
    )


@router.get("/runs/{name}/answers/{id}")
async def answers(request: Request, run: NamedRun, id: str) -> Response:
    """Send the answers as they are generated."""
    question = _found(request, run, id)

    async def events() -> AsyncIterator[str]:
        seen = -1
        while True:
            if await request.is_disconnected():
                await run_in_threadpool(_questions(request).cancel, question)
                return
            # Checked first, because the last answers may arrive while earlier ones are rendered.
            is_over = question.is_over
            if is_over or question.version != seen:
                seen = question.version
                yield event("answers", await run_in_threadpool(_columns, request, question))
            if is_over:
                yield event("ended", "")
                return
            await asyncio.sleep(POLL_SECONDS)

    return event_stream(events())


@router.post("/runs/{name}/answers/{id}/vote")
async def vote(request: Request, run: NamedRun, id: str, form: OwnForm) -> Response:
    """Store a vote in the run, and show which model gave which answer."""
    question = _found(request, run, id)
    chosen = field(form, "chosen")
    if question.status != "done" or not question.is_blind:
        raise HTTPException(409, Message("There is nothing to vote on."))
    if chosen != NO_DIFFERENCE and not (chosen.isdecimal() and int(chosen) < len(question.order)):
        raise HTTPException(422, Message("There is no such answer."))
    if question.vote is None:
        model = None if chosen == NO_DIFFERENCE else question.order[int(chosen)]
        question.vote = model or ""
        shown = {name: question.answers[name] for name in question.order}
        own = Vote(time=now(), prompt=question.prompt, answers=shown, chosen=model)
        try:
            await run_in_threadpool(add_vote, run, own)
        except BaseException:
            question.vote = None  # the vote was not stored, so the voter can try again
            raise
    votes = await run_in_threadpool(read_votes, run)
    return page(
        request,
        "voted.html.j2",
        question=question,
        run_name=run.folder.name,
        colours=_colours(question),
        votes=votes,
    )


def _questions(request: Request) -> Questions:
    found: Questions = request.app.state.questions
    return found


def _found(request: Request, run: Run, id: str) -> Question:
    found = _questions(request).find(run, id)
    if found is None:
        raise HTTPException(404, Message("This question no longer exists. Ask it again."))
    return found


def _columns(request: Request, question: Question) -> str:
    return fragment(
        request, "answers.html.j2", question=question, run_name=question.run, colours=_colours(question)
    )


def _colours(question: Question) -> Mapping[str, str]:
    groups = list(dict.fromkeys(group_of(name) for name in question.answers if name != BASE_NAME))
    own = {name: colour(groups.index(group_of(name))) for name in question.answers if name != BASE_NAME}
    return {BASE_NAME: "base", **own}


def _check_prompt(prompt: str) -> None:
    """Refuse a prompt that cannot be answered.

    Raises:
        RecipeError: the prompt is empty or too long.
    """
    if not prompt.strip():
        raise RecipeError(Message("Type a prompt first."))
    if len(prompt) > LONGEST_PROMPT:
        raise RecipeError(
            Message("The prompt is too long; at most {most:,} characters are allowed.", most=LONGEST_PROMPT)
        )


def _settings(form: FormData) -> dict[str, Any]:
    """Return the decoding settings of a form.

    Raises:
        RecipeError: a setting is invalid.
    """
    is_sampling = field(form, "do_sample") == "true"
    given: dict[str, Any] = {
        "max_new_tokens": _whole(form, "max_new_tokens", 256),
        "num_beams": 1 if is_sampling else _whole(form, "num_beams", 1),
        "do_sample": is_sampling,
        "temperature": _number(form, "temperature") if is_sampling else None,
        "top_p": _number(form, "top_p") if is_sampling else None,
        "top_k": None,
        "length_penalty": None,
    }
    try:
        GenerationSettings.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"])) or "generation"
        raise RecipeError(
            Message("{setting} is invalid: {reason}", setting=name, reason=first["msg"])
        ) from None
    return given


def _whole(form: FormData, name: str, default: int) -> int:
    text = field(form, name).strip()
    if not text:
        return default
    if not text.isdecimal() or len(text) > 9:
        raise RecipeError(Message("{setting} must be a whole number", setting=name))
    return int(text)


def _number(form: FormData, name: str) -> float | None:
    text = field(form, name).strip()
    if not text:
        return None
    try:
        return float(text)
    except ValueError:
        raise RecipeError(Message("{setting} must be a number", setting=name)) from None
