"""The data of a run: the rows of its split, token by token."""

from __future__ import annotations

from fastapi import APIRouter, HTTPException
from starlette.requests import Request
from starlette.responses import Response

from loraloom.data.splitting.split import PARTS
from loraloom.errors import LoRALoomError
from loraloom.text.message import Message
from loraloom.web.pages.rendering import problems_of
from loraloom.web.pages.requests import NamedRun, page_of_run
from loraloom.web.pages.split_rows import SplitCache, SplitData

router = APIRouter()
ROWS_A_PAGE = 20


@router.get("/runs/{name}/data")
def data(
    request: Request, run: NamedRun, part: str = "train", number: int = 1, find: str = "", cut: bool = False
) -> Response:
    """Show the rows of one part of the split: all, or only those that contain a text or were truncated."""
    if part not in PARTS:
        raise HTTPException(404, Message("There is no such part of the data."))
    cache: SplitCache = request.app.state.splits
    try:
        seen = cache.of(run)
    except LoRALoomError as error:
        return page_of_run(request, run, "data", problems=problems_of(error))
    numbers = _matching(seen, part, find, cut)
    num_pages = max(1, -(-len(numbers) // ROWS_A_PAGE))
    number = min(max(1, number), num_pages)
    return page_of_run(
        request,
        run,
        "data",
        problems=[],
        part=part,
        parts={name: len(seen.examples(name)) for name in PARTS},
        rows=seen.rows(part, numbers[(number - 1) * ROWS_A_PAGE : number * ROWS_A_PAGE]),
        num_matching=len(numbers),
        find=find,
        cut=cut,
        number=number,
        num_pages=num_pages,
        limits=(seen.recipe.data.max_source_length, seen.recipe.data.max_target_length),
        without_tokenizer=seen.without_tokenizer,
        dropped=seen.split.dropped,
        files=seen.split.files,
    )


def _matching(seen: SplitData, part: str, find: str, cut: bool) -> list[int]:
    """Return the numbers, from 1, of the rows that contain a text and, if `cut` is set, were truncated."""
    examples, wanted = seen.examples(part), find.casefold().strip()  # type: ignore[arg-type]
    numbers = [
        number
        for number, example in enumerate(examples, 1)
        if not wanted or wanted in example.source.casefold() or wanted in example.response.casefold()
    ]
    if not cut:
        return numbers
    return [row.number for row in seen.rows(part, numbers) if row.cut]  # type: ignore[arg-type]
