"""Pages for logging in with the server's token and for choosing the language."""

from __future__ import annotations

from urllib.parse import urlsplit

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from loraloom.text.language import LOCALES
from loraloom.text.message import Message
from loraloom.web.pages.languages import COOKIE
from loraloom.web.pages.rendering import access_of, page
from loraloom.web.pages.requests import OwnForm, field

router = APIRouter()
YEAR_SECONDS = 365 * 24 * 3600


@router.get("/login")
def login(request: Request, next: str = "/") -> Response:
    """Ask for the token."""
    return page(request, "login.html.j2", next=_own_path(next), problem="")


@router.post("/login")
async def log_in(request: Request, form: OwnForm) -> Response:
    """Start a session, if the token is correct."""
    access, wanted = access_of(request), _own_path(field(form, "next"))
    if not access.accepts_token(field(form, "token").strip()):
        return page(
            request,
            "login.html.j2",
            status=403,
            next=wanted,
            problem=Message("This is not the right token for this server."),
        )
    answer = RedirectResponse(wanted, status_code=303)
    answer.headers["set-cookie"] = access.session_cookie(request.scope)
    return answer


@router.post("/language")
async def choose_language(request: Request, form: OwnForm) -> Response:
    """Store the language that the user chose for the pages in a cookie."""
    answer = RedirectResponse(_own_path(field(form, "next")), status_code=303)
    if (wanted := field(form, "language")) in LOCALES:
        answer.set_cookie(COOKIE, wanted, max_age=YEAR_SECONDS, samesite="strict", httponly=True)
    return answer


def _own_path(path: str) -> str:
    """Return a path if it belongs to this server, otherwise the path of the start page."""
    parts = urlsplit(path)
    is_own = (
        path.startswith("/") and not path.startswith(("//", "/\\")) and not parts.netloc and not parts.scheme
    )
    return path if is_own and path.isprintable() and "\\" not in path else "/"
