"""A page as a browser has it: its tags, their attributes, its words."""

from __future__ import annotations

from html.parser import HTMLParser

VOID = {"meta", "br", "input", "col"}


class Page(HTMLParser):
    """What a browser would make of the page."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.blocks: dict[str, list[str]] = {"style": [], "script": []}
        self.text: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        (self.blocks[self.open[-1]] if self.open and self.open[-1] in self.blocks else self.text).append(data)

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())

    def inputs(self, type: str) -> list[dict[str, str | None]]:
        return [given for tag, given in self.tags if tag == "input" and given.get("type") == type]

    def classes(self, wanted: str) -> list[dict[str, str | None]]:
        return [given for _, given in self.tags if wanted in (given.get("class") or "").split()]
