"""A stand-in for the API of the Hugging Face hub, for its real client: repositories in memory."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.http_server import served

TOKEN = "hf_test"


@dataclass
class Repository:
    """One model repository, with its files and the titles of its commits."""

    is_private: bool
    files: dict[str, bytes] = field(default_factory=dict)
    commits: list[str] = field(default_factory=list)

    @property
    def sha(self) -> str:
        """Of the newest commit."""
        return hashlib.sha1(repr(self.commits).encode()).hexdigest()


@dataclass
class Hub:
    """What the server contains, and what it was asked."""

    endpoint: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    refusal: tuple[str, int, str] | None = None  # part of a path, status, message


@contextmanager
def hub_server() -> Iterator[Hub]:
    """Serve a hub on this machine until the end of the block."""
    hub = Hub()
    with served(type("Handler", (_Handler,), {"hub": hub})) as hub.endpoint:
        yield hub


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing."""

    def do_GET(self) -> None:
        self._handle(b"")

    def do_POST(self) -> None:
        self._handle(self.rfile.read(int(self.headers.get("content-length") or 0)))

    def do_PUT(self) -> None:
        self.do_POST()

    def _handle(self, body: bytes) -> None:
        path = self.path.split("?")[0]
        self.hub.asked.append(f"{self.command} {path}")
        if self.command == "PUT":
            self.hub.objects[path.rsplit("/", 1)[1]] = body
            self._answer(200, {})
        elif self.headers.get("authorization") != f"Bearer {TOKEN}":
            self._answer(401, {"error": "Invalid username or password."})
        elif (refusal := self.hub.refusal) is not None and refusal[0] in path:
            self._answer(refusal[1], {"error": refusal[2]})
        elif path == "/api/repos/create":
            self._create(json.loads(body))
        elif path == "/api/validate-yaml":
            self._answer(200, {"errors": [], "warnings": []})
        elif path.endswith("/info/lfs/objects/batch"):
            self._offer_uploads(json.loads(body))
        else:
            self._in_repository(path, body)

    def _create(self, asked: dict[str, Any]) -> None:
        name = f"{asked['organization']}/{asked['name']}"
        self.hub.repositories[name] = Repository(asked["visibility"] == "private", {".gitattributes": b""})
        self._answer(200, {"url": f"{self.hub.endpoint}/{name}"})

    def _offer_uploads(self, asked: dict[str, Any]) -> None:
        objects = [
            {**each, "actions": {"upload": {"href": f"{self.hub.endpoint}/storage/{each['oid']}"}}}
            for each in asked["objects"]
        ]
        self._answer(200, {"transfer": "basic", "objects": objects})

    def _in_repository(self, path: str, body: bytes) -> None:
        owner, name, *action = path.removeprefix("/api/models/").split("/")
        found = self.hub.repositories.get(f"{owner}/{name}")
        if found is None:
            self._answer(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
        elif not action:
            siblings = [{"rfilename": file} for file in found.files]
            values = {"id": f"{owner}/{name}", "private": found.is_private, "sha": found.sha}
            self._answer(200, {**values, "siblings": siblings, "tags": []})
        elif action[0] == "preupload":
            files = [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular",
                    "shouldIgnore": False,
                }
                for file in json.loads(body)["files"]
            ]
            self._answer(200, {"files": files})
        else:
            assert action[0] == "commit", path
            self._commit(f"{owner}/{name}", found, [json.loads(line) for line in body.splitlines()])

    def _commit(self, name: str, found: Repository, lines: list[dict[str, Any]]) -> None:
        header = lines[0]["value"]
        if header.get("parentCommit", found.sha) != found.sha:
            self._answer(412, {"error": "A commit has happened since. Please refresh and try again."})
            return
        for line in lines[1:]:
            value = line["value"]
            found.files[value["path"]] = (
                self.hub.objects[value["oid"]]
                if line["key"] == "lfsFile"
                else base64.b64decode(value["content"])
            )
        found.commits.append(header["summary"])
        self._answer(200, {"commitUrl": f"{self.hub.endpoint}/{name}/commit/1", "commitOid": found.sha})

    def _answer(self, status: int, value: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        content = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        for key, text in (headers or {}).items():
            self.send_header(key, text)
        self.end_headers()
        self.wfile.write(content)
