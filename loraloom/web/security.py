"""Protection of a server: checks of each request's host, origin, token and size, and security headers.

    access = Access(host="127.0.0.1", token=None)
    app = SecurityMiddleware(application, access)

`SecurityMiddleware` wraps a whole ASGI application, so that no route can be unprotected. The only routes that
it knows are those that need no token.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from urllib.parse import quote, urlsplit

from loraloom.errors import RecipeError
from loraloom.text.message import Message
from loraloom.web.body_limit import App, BoundedBody, Event, Receive, Scope, Send, discard
from loraloom.web.error_document import error_document
from loraloom.web.hosts import is_loopback, names_server
from loraloom.web.tokens import SignedTokens, is_same

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
MAX_BODY_BYTES = 1 << 20
BODY_SECONDS = 30.0

# Scripts and styles are files of the server itself; nothing inline or from other servers runs.
CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "font-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    )
)
HEADERS = {
    b"content-security-policy": CONTENT_SECURITY_POLICY.encode(),
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
    # With `no-referrer`, browsers would send `Origin: null` with our own forms.
    b"referrer-policy": b"same-origin",
    b"cross-origin-opener-policy": b"same-origin",
    b"cross-origin-resource-policy": b"same-origin",
    b"cache-control": b"no-store",
}


@dataclass(frozen=True)
class Refusal:
    """Why a request is not passed to the application.

    Args:
        status: HTTP status.
        code: error code, for programs.
        message: message, for people.
    """

    status: int
    code: str
    message: str


MISSING_TOKEN = Refusal(
    401,
    "invalid_token",
    Message("A valid token is required: `Authorization: Bearer TOKEN`, with the token of --token-file."),
)
FOREIGN_HOST = Refusal(
    421,
    "host_not_allowed",
    Message("This server does not answer to the name in the Host header. Allow that name with --allow-host."),
)
FOREIGN_ORIGIN = Refusal(
    403, "cross_origin", Message("A page from another site must not send requests to this server.")
)
TOO_LARGE = Refusal(413, "body_too_large", Message("The request's body is too large."))
TOO_SLOW = Refusal(408, "body_too_slow", Message("The request's body did not arrive in time."))
NO_WEBSOCKET = 1008


@dataclass(frozen=True)
class Access:
    """Who may use a server, and how.

    Args:
        host: the address that the server binds.
        token: token that each request must carry; None for no token, which requires a loopback address.
        allowed_hosts: further names by which clients reach it, such as that of a proxy.
        open_paths: paths that need no token (a login page, `/health`); a path that ends in `/` includes all
            paths below it.
        login_path: page that a browser without a session is sent to; None for an API.
        max_body_bytes: maximum size of a request's body, except below the prefixes in `body_limits`.
        body_limits: prefix of a path → maximum number of bytes.
        body_seconds: maximum number of seconds in which a request's body must arrive.

    Raises:
        RecipeError: `token` is None, but `host` is not a loopback address.
    """

    host: str = "127.0.0.1"
    token: str | None = field(default=None, repr=False)
    allowed_hosts: frozenset[str] = frozenset()
    open_paths: frozenset[str] = frozenset({"/health"})
    login_path: str | None = None
    max_body_bytes: int = MAX_BODY_BYTES
    body_limits: Mapping[str, int] = field(default_factory=dict)
    body_seconds: float = BODY_SECONDS
    sessions: SignedTokens = field(default_factory=lambda: SignedTokens("session"), repr=False)
    forms: SignedTokens = field(default_factory=lambda: SignedTokens("form"), repr=False)

    def __post_init__(self) -> None:
        if self.token is None and not is_loopback(self.host):
            raise RecipeError(
                Message("an address that other machines can reach requires a token"),
                where=f"--host {self.host}",
                allowed=Message("127.0.0.1, ::1 or localhost without a token"),
                fix=Message("Give --token-file FILE, or leave out --host."),
            )

    def answers_to(self, host_header: str) -> bool:
        """Return whether a Host header names this server; requiring this prevents DNS rebinding."""
        return names_server(host_header, self.host, self.allowed_hosts)

    def is_open(self, path: str) -> bool:
        """Return whether a path needs no token."""
        return any(path == each or (each.endswith("/") and path.startswith(each)) for each in self.open_paths)

    def body_limit(self, path: str) -> int:
        """Return the maximum number of bytes in the body of a request to a path."""
        fitting = [prefix for prefix in self.body_limits if path.startswith(prefix)]
        return self.body_limits[max(fitting, key=len)] if fitting else self.max_body_bytes

    def accepts_token(self, given: str | None) -> bool:
        """Return whether a given token is the server's; always True if the server has none."""
        return self.token is None or (given is not None and is_same(given, self.token))

    def session_cookie(self, scope: Scope) -> str:
        """Return the `Set-Cookie` header for a browser that has logged in."""
        return f"{_cookie_name(scope)}={self.sessions.issue()}; HttpOnly; SameSite=Strict; Path=/"

    def form_token(self, scope: Scope) -> str:
        """Return the token for the forms of a response page; it is valid only in the request's session."""
        return self.forms.issue(_session_of(scope))

    def accepts_form(self, scope: Scope, value: str | None) -> bool:
        """Return whether a form's hidden field has a value that `form_token` returned in the same session."""
        return self.forms.accepts(value, _session_of(scope))


class SecurityMiddleware:
    """Middleware that passes on only the requests that `Access` allows, and adds security headers.

    Args:
        app: the application.
        access: who may use it.
        render: converts a refusal to a body and its content type; by default to JSON.
    """

    def __init__(
        self,
        app: App,
        access: Access,
        render: Callable[[Refusal], tuple[bytes, str]] = lambda refusal: (
            json.dumps(error_document(refusal.status, refusal.code, refusal.message)).encode(),
            "application/json",
        ),
    ) -> None:
        self.app, self.access, self._render = app, access, render

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check a request, and pass it on with a limit on its body; add security headers to the response."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": NO_WEBSOCKET})
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        send = _with_headers(send)
        if (refusal := self._refusal(scope)) is not None:
            await self._refuse(scope, receive, send, refusal)
            return

        async def cut_off(status: int) -> None:
            await self._refuse(scope, receive, send, TOO_LARGE if status == 413 else TOO_SLOW)

        limit, seconds = self.access.body_limit(scope["path"]), self.access.body_seconds
        bounded = BoundedBody(receive, send, limit, seconds, cut_off)
        await self.app(scope, bounded.receive, bounded.send)

    def _refusal(self, scope: Scope) -> Refusal | None:
        access = self.access
        if not access.answers_to(header(scope, b"host") or ""):
            return FOREIGN_HOST
        if scope["method"] not in SAFE_METHODS and _is_cross_origin(scope):
            return FOREIGN_ORIGIN
        if access.token is not None and not access.is_open(scope["path"]) and not self._is_known(scope):
            return MISSING_TOKEN
        length = header(scope, b"content-length") or "0"
        if length.isdecimal() and int(length[:20]) > access.body_limit(scope["path"]):
            return TOO_LARGE
        return None

    def _is_known(self, scope: Scope) -> bool:
        scheme, _, given = (header(scope, b"authorization") or "").partition(" ")
        if scheme.lower() == "bearer":
            return self.access.accepts_token(given.strip())
        return self.access.sessions.accepts(_session_of(scope))

    async def _refuse(self, scope: Scope, receive: Receive, send: Send, refusal: Refusal) -> None:
        login, wants_page = self.access.login_path, "text/html" in (header(scope, b"accept") or "")
        headers = [(b"connection", b"close")] if refusal.status in (408, 413) else []
        if refusal is MISSING_TOKEN and login and wants_page and scope["method"] in SAFE_METHODS:
            query = scope.get("query_string", b"").decode("latin-1")
            wanted = scope["path"] + (f"?{query}" if query else "")
            headers += [(b"location", f"{login}?next={quote(wanted, safe='/')}".encode())]
            status, body, kind = 303, b"", "text/plain"
        else:
            status = refusal.status
            body, kind = self._render(refusal)
            headers += [(b"www-authenticate", b"Bearer")] if status == 401 else []
        headers += [(b"content-type", kind.encode()), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": refusal is TOO_LARGE})
        if refusal is TOO_LARGE:
            await discard(receive)
            await send({"type": "http.response.body", "body": b""})


def header(scope: Scope, name: bytes) -> str | None:
    """Return a header of a request; None unless the request has exactly one of this name."""
    values = [value for key, value in scope["headers"] if key == name]
    return values[0].decode("latin-1") if len(values) == 1 else None


def _is_cross_origin(scope: Scope) -> bool:
    """Return whether a browser sent a request from a page of another origin; programs send no `Origin`."""
    site, origin = header(scope, b"sec-fetch-site"), header(scope, b"origin")
    if site is not None and site not in ("same-origin", "none"):
        return True
    if origin is None:
        return any(key == b"origin" for key, _ in scope["headers"])  # several of them
    return urlsplit(origin).netloc.lower() != (header(scope, b"host") or "").lower()


def _cookie_name(scope: Scope) -> str:
    """Return the session cookie's name, which contains the port because all ports of a host share cookies."""
    _, port = scope.get("server") or ("", 0)
    return f"loraloom_session_{port}"


def _session_of(scope: Scope) -> str:
    try:
        cookies = SimpleCookie(header(scope, b"cookie") or "")
    except CookieError:
        return ""
    found = cookies.get(_cookie_name(scope))
    return "" if found is None else found.value


def secured_headers(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Return a response's headers, plus the security headers that are missing from them."""
    own = list(headers)
    names = {bytes(name).lower() for name, _ in own}
    return own + [(name, value) for name, value in HEADERS.items() if name not in names]


def _with_headers(send: Send) -> Send:
    async def sending(event: Event) -> None:
        if event["type"] == "http.response.start":
            event = {**event, "headers": secured_headers(event.get("headers", []))}
        await send(event)

    return sending
