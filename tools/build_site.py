"""Stage the pages of the documentation site, and build it with mkdocs: `make site`.

    python -m tools.build_site            # .site/ and site/
    python -m tools.build_site --stage    # .site/ alone

The pages are those of docs/, which people also read where the code is. Staging adds the README as the first
page, the commands' help as a page in each language, and the documents beside the code; links follow.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
STAGED = ROOT / ".site"
# Documents outside of docs/ that are pages of the site.
BESIDES = {
    "README.md": "index.md",
    "README.zh.md": "index.zh.md",
    "SECURITY.md": "security.md",
    "CONTRIBUTING.md": "contributing.md",
    "loraloom/starter/README.md": "starter.md",
}
LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!https?:|#)([^)#\s]+)(#[^)]*)?\)")
TITLES = {"en": "# Commands", "zh": "# 命令"}


def pages() -> dict[Path, str]:
    """Every document that becomes a page, and the page's name."""
    found = {path: path.name for path in sorted((ROOT / "docs").glob("*.md"))}
    return found | {ROOT / name: page for name, page in BESIDES.items()}


def staged(document: Path, known: dict[Path, str]) -> str:
    """A document with links between pages; a link to a file of the repository becomes its name."""

    def follow(match: re.Match[str]) -> str:
        mark, text, target, anchor = match.groups()
        path = (document.parent / target).resolve()
        if path in known:
            return f"[{text}]({known[path]}{anchor or ''})"
        if path.is_relative_to(ROOT / "docs" / "images"):
            return f"{mark}[{text}](images/{path.name})"
        return f"{text} (`{path.relative_to(ROOT)}`)" if path.is_relative_to(ROOT) else text

    parts = re.split(r"(?ms)(^```.*?^```$)", document.read_text(encoding="utf-8"))
    return "".join(part if part.startswith("```") else LINK.sub(follow, part) for part in parts)


def commands_page(language: str) -> str:
    """The help of every command, as the command line prints it."""
    from typer.testing import CliRunner

    from loraloom.cli.app import VERBS, make_app
    from loraloom.text.catalogue import use_catalogue
    from loraloom.text.language import catalogue_of

    said = [TITLES[language]]
    with use_catalogue(catalogue_of(language)):
        for verb in VERBS:
            shown = (
                CliRunner()
                .invoke(make_app(verb), [verb, "--help"], env={"COLUMNS": "100", "TERM": "dumb"})
                .output
            )
            lines = "\n".join(line.rstrip() for line in shown.strip().splitlines())
            said.append(f"## loraloom {verb}\n\n```text\n{lines}\n```")
    return "\n\n".join(said) + "\n"


def stage(folder: Path) -> None:
    """Write all pages into a folder, which is replaced."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(ROOT / "docs" / "images", folder / "images")
    known = pages()
    for document, name in known.items():
        (folder / name).write_text(staged(document, known), encoding="utf-8")
    for language, name in (("en", "commands.md"), ("zh", "commands.zh.md")):
        (folder / name).write_text(commands_page(language), encoding="utf-8")


if __name__ == "__main__":
    stage(STAGED)
    if "--stage" not in sys.argv:
        command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet"]
        # A note of the theme's makers about mkdocs 2 is no warning about these pages.
        sys.exit(subprocess.run(command, cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}).returncode)
