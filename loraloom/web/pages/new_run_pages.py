"""Pages for creating a run: upload and view data, write and check the recipe, start training."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from loraloom.checks.allowances import why_not_allowable
from loraloom.recipe import Recipe
from loraloom.report.histogram import histogram
from loraloom.run.folder import fresh_folder
from loraloom.text.message import Message
from loraloom.web.pages.drafts import (
    Draft,
    Drafts,
    LineProblem,
    Proposal,
    preview_of,
    propose,
    read_typed_recipe,
)
from loraloom.web.pages.jobs import Job
from loraloom.web.pages.rendering import page, run_address
from loraloom.web.pages.requests import OwnForm, field, jobs_of, runs_of

router = APIRouter()
ROLES = ("instruction", "response")


def drafts_of(request: Request) -> Drafts:
    """Return the drafts in the server's folder of runs."""
    return Drafts(runs_of(request).folder)


def named_draft(request: Request, id: str) -> Draft:
    """Return the draft named in a path, or answer 404."""
    found = drafts_of(request).find(id)
    if found is None:
        raise HTTPException(404, Message("This draft no longer exists."))
    return found


NamedDraft = Annotated[Draft, Depends(named_draft)]


@router.get("/new")
def new_run(request: Request) -> Response:
    """Show the form for uploading data files."""
    return page(request, "new.html.j2", drafts=drafts_of(request).all()[:20], problem="")


@router.post("/new/upload")
async def upload(request: Request, form: OwnForm) -> Response:
    """Store data files as a new draft."""
    given = [each for each in form.getlist("data") if isinstance(each, UploadFile) and each.filename]
    model = field(form, "model").strip() or "starter"
    if not given or not all(each.size for each in given):
        problem = Message("Choose a data file that is not empty.")
        return page(request, "new.html.j2", status=422, drafts=drafts_of(request).all()[:20], problem=problem)
    files = [(each.filename or "", each.file) for each in given]
    draft = await run_in_threadpool(drafts_of(request).create, files, model)
    return RedirectResponse(f"/new/{draft.id}", status_code=303)


@router.get("/new/{id}")
def draft(request: Request, draft: NamedDraft) -> Response:
    """Show the data and the recipe."""
    text = draft.recipe()
    if not text:
        return _draft_page(request, draft, propose(draft, draft.model, {}))
    recipe, _ = read_typed_recipe(text)
    preview = None if recipe is None else preview_of(draft, recipe.data)
    return _draft_page(request, draft, Proposal(text, (), (), preview))


@router.post("/new/{id}/columns")
async def assign_columns(request: Request, draft: NamedDraft, form: OwnForm) -> Response:
    """Propose a recipe again, with the columns and data settings that the user entered."""
    columns = {role: name for role in ROLES if (name := field(form, role).strip())}
    settings = field(form, "settings")
    return await run_in_threadpool(
        lambda: _draft_page(request, draft, propose(draft, draft.model, columns, settings), columns, settings)
    )


@router.post("/new/{id}/validate")
async def validate(request: Request, draft: NamedDraft, form: OwnForm) -> Response:
    """Show problems in the recipe while the user types it."""
    text = field(form, "recipe")
    return await run_in_threadpool(lambda: page(request, "recipe_problems.html.j2", **_typed(text)))


@router.post("/new/{id}/check")
async def check(request: Request, draft: NamedDraft, form: OwnForm) -> Response:
    """Save the recipe and run all checks on it."""
    recipe, allowed, refusal = await run_in_threadpool(_save, request, draft, form)
    if recipe is None or refusal:
        return page(request, "job.html.j2", job=None, draft=draft, problems=refusal)
    job = await run_in_threadpool(
        lambda: jobs_of(request).start("check", recipe=str(draft.recipe_file.resolve()), allowed=allowed)
    )
    return page(request, "job.html.j2", job=job, draft=draft, problems=[])


@router.post("/new/{id}/start")
async def start(request: Request, draft: NamedDraft, form: OwnForm) -> Response:
    """Save the recipe and start training in a separate process."""
    recipe, allowed, refusal = await run_in_threadpool(_save, request, draft, form)
    if recipe is None or refusal:
        return page(
            request,
            "problem.html.j2",
            status=422,
            title=Message("The training was not started"),
            problems=refusal,
        )
    job = await run_in_threadpool(_start_training, request, draft, allowed)
    return RedirectResponse(f"/jobs/{job.id}", status_code=303)


def _start_training(request: Request, draft: Draft, allowed: list[str]) -> Job:
    """Start a training job for a draft, or return the job that is already starting for it."""
    jobs, runs = jobs_of(request), runs_of(request).folder
    with jobs.starts:
        if (same := jobs.starting(draft.id)) is not None:
            return same
        name = draft.files[0].partition(".")[0] if draft.files else "run"
        taken, number, stem = jobs.names_taken(), 1, name
        while (out := fresh_folder(stem, runs)).name in taken:
            number += 1
            stem = f"{name}-{number}"
        recipe = str(draft.recipe_file.resolve())
        return jobs.start("train", run=out.name, recipe=recipe, out=str(out), allowed=allowed, draft=draft.id)


@router.post("/new/{id}/discard")
async def discard(request: Request, draft: NamedDraft, form: OwnForm) -> Response:
    """Remove a draft, unless it contains the data of a run that was started from it."""
    folder = str(draft.folder.resolve())
    if any(run.read_json(run.provenance_file).get("folder") == folder for run in runs_of(request).runs()):
        raise HTTPException(
            409, Message("A run was trained on the files of this draft and still needs them.")
        )
    drafts_of(request).discard(draft)
    return RedirectResponse("/new", status_code=303)


@router.get("/jobs/{id}")
def job(request: Request, id: str) -> Response:
    """Show a training job that is starting, then redirect to its run."""
    found = _job(request, id)
    if found.run and runs_of(request).find(found.run) is not None:
        return RedirectResponse(run_address(found.run), status_code=303)
    return page(request, "starting.html.j2", job=found, draft=_draft_of(request, found), problems=[])


@router.get("/jobs/{id}/progress")
def progress(request: Request, id: str) -> Response:
    """Show what a process started from the pages has reported so far."""
    found = _job(request, id)
    answer = page(request, "job.html.j2", job=found, draft=_draft_of(request, found), problems=[])
    if found.kind == "train" and runs_of(request).find(found.run) is not None:
        answer.headers["HX-Redirect"] = run_address(found.run)
    return answer


def _job(request: Request, id: str) -> Job:
    found = jobs_of(request).find(id)
    if found is None:
        raise HTTPException(404, Message("This process no longer exists."))
    return found


def _draft_of(request: Request, job: Job) -> Draft | None:
    return drafts_of(request).find(job.draft)


def _save(request: Request, draft: Draft, form: Any) -> tuple[Recipe | None, list[str], list[str]]:
    """Save the recipe from a form; return it (None if invalid), the checks to allow, and any problems."""
    text = field(form, "recipe")
    draft.save_recipe(text)
    recipe, said = read_typed_recipe(text)
    allowed = [name.strip() for name in field(form, "allow").split(",") if name.strip()]
    refusal = [why for name in allowed if (why := why_not_allowable(name))]
    refusal += [each.message for each in said if not each.is_note] if recipe is None else []
    return recipe, allowed, refusal


def _typed(text: str) -> dict[str, Any]:
    recipe, said = read_typed_recipe(text)
    by_line: dict[int, list[LineProblem]] = {}
    for each in said:
        if each.line is not None:
            by_line.setdefault(each.line, []).append(each)
    num_lines = text.count("\n") + 1
    return {"is_valid": recipe is not None, "said": said, "by_line": by_line, "num_lines": num_lines}


def _draft_page(
    request: Request,
    draft: Draft,
    proposal: Proposal,
    columns: dict[str, str] | None = None,
    settings: str = "",
) -> Response:
    preview = proposal.preview
    lengths = [] if preview is None else list(preview.lengths)
    return page(
        request,
        "draft.html.j2",
        draft=draft,
        proposal=proposal,
        preview=preview,
        columns=columns or {},
        settings=settings,
        source_chart=histogram(
            [source for source, _ in lengths], label=Message("Source lengths in characters")
        ),
        response_chart=histogram(
            [response for _, response in lengths], label=Message("Response lengths in characters")
        ),
        job=None,
        problems=[],
        **_typed(proposal.recipe),
    )
