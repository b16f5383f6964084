"""A stand-in for the part of the hub that models and datasets are read from, for its real clients."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.http_server import served

Files = Mapping[str, bytes]

_FILE = re.compile(r"/(?:(?P<kind>datasets)/)?(?P<name>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)")
_ASKED = re.compile(r"/api/(?P<kind>models|datasets)/(?P<name>[^/]+/[^/]+)(?:/(?P<action>.*))?")


@dataclass
class HubFiles:
    """What the server contains, and what it was asked.

    Args:
        commits: `models/owner/name` → commit → its files; the last one is the branch main.
        asked: method and path of each request.
    """

    endpoint: str = ""
    commits: dict[str, dict[str, Files]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def commit(self, repository: str, files: Files) -> str:
        """Add a commit to `models/owner/name` or `datasets/owner/name`; return its sha."""
        known = self.commits.setdefault(repository, {})
        sha = hashlib.sha1(f"{repository}{len(known)}".encode()).hexdigest()
        known[sha] = files
        return sha

    def resolve(self, repository: str, revision: str) -> tuple[str, Files] | None:
        """Return the commit of a revision, and its files; None if there is none."""
        known = self.commits[repository]
        if revision == "main":
            return list(known.items())[-1]
        found = [sha for sha in known if len(revision) >= 7 and sha.startswith(revision)]
        return (found[0], known[found[0]]) if found else None


def files_of(folder: Path) -> Files:
    """Read the files of a folder, by their path in it."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


@contextmanager
def hub_files_server() -> Iterator[HubFiles]:
    """Serve a hub on this machine until the end of the block."""
    hub = HubFiles()
    with served(type("Handler", (_Handler,), {"hub": hub})) as hub.endpoint:
        yield hub


class _Handler(BaseHTTPRequestHandler):
    hub: HubFiles
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing."""

    def do_HEAD(self) -> None:
        self._handle()

    def do_GET(self) -> None:
        self._handle()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("content-length") or 0))
        self._handle()

    def _handle(self) -> None:
        url = urlsplit(self.path)
        path = unquote(url.path)
        self.hub.asked.append(f"{self.command} {path}")
        # The client writes the slashes of a revision as %2F, which must not be taken for those of the path.
        file, asked = _FILE.fullmatch(url.path), _ASKED.fullmatch(url.path)
        found = file or asked
        repository = "" if found is None else f"{found['kind'] or 'models'}/{found['name']}"
        if repository not in self.hub.commits:
            self._refuse("RepoNotFound")
        elif file is not None:
            self._file(repository, unquote(file["revision"]), unquote(file["path"]))
        elif asked is not None:
            action, _, rest = (asked["action"] or "revision/main").partition("/")
            revision, _, folder = rest.partition("/")
            self._api(repository, action, unquote(revision), unquote(folder), parse_qs(url.query))

    def _api(
        self, repository: str, action: str, revision: str, folder: str, query: Mapping[str, list[str]]
    ) -> None:
        found = self.hub.resolve(repository, revision)
        if found is None:
            self._refuse("RevisionNotFound")
            return
        sha, files = found
        if action == "revision":
            siblings = [{"rfilename": path} for path in files]
            name = repository.partition("/")[2]
            self._answer({"id": name, "sha": sha, "private": False, "siblings": siblings, "tags": []})
        elif action == "tree":
            self._tree(files, folder, is_recursive=query.get("recursive", [""])[0].lower() == "true")
        else:
            self._refuse("EntryNotFound")

    def _tree(self, files: Files, folder: str, *, is_recursive: bool) -> None:
        start = f"{folder}/" if folder else ""
        entries: dict[str, dict[str, Any]] = {}
        for path, content in files.items():
            if not path.startswith(start):
                continue
            below = path.removeprefix(start)
            if "/" in below and not is_recursive:
                inner = start + below.partition("/")[0]
                entries[inner] = {"type": "directory", "oid": "0" * 40, "size": 0, "path": inner}
            else:
                entries[path] = {"type": "file", "oid": _oid(content), "size": len(content), "path": path}
        if folder and not entries:
            self._refuse("EntryNotFound")
        else:
            self._answer(list(entries.values()))

    def _file(self, repository: str, revision: str, path: str) -> None:
        found = self.hub.resolve(repository, revision)
        if found is None:
            self._refuse("RevisionNotFound")
            return
        sha, files = found
        if path not in files:
            self._refuse("EntryNotFound", {"X-Repo-Commit": sha})
            return
        self._send(200, files[path], {"ETag": f'"{_oid(files[path])}"', "X-Repo-Commit": sha})

    def _refuse(self, code: str, headers: Mapping[str, str] | None = None) -> None:
        self._send(404, b"{}", {"X-Error-Code": code, **(headers or {})})

    def _answer(self, value: object) -> None:
        self._send(200, json.dumps(value).encode(), {"content-type": "application/json"})

    def _send(self, status: int, content: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for key, text in headers.items():
            self.send_header(key, text)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def _oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
