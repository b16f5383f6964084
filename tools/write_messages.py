"""Bring the messages' files up to date: `make messages`.

    loraloom/locale/loraloom.pot                      every message of the sources
    loraloom/locale/zh_CN/LC_MESSAGES/loraloom.po     their translations, which are kept; new ones are empty
    loraloom/locale/zh_CN/LC_MESSAGES/loraloom.mo     the same, as the standard library's gettext reads it

A message that changed has lost its translation: nothing is guessed from similar messages. A new language
begins with a `.po` file that has only a header. Places have no line numbers, so that the files change only
when a message does.
"""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po

from tools.messages.templates import PACKAGE, templates

FOLDER = PACKAGE / "locale"
FILE = FOLDER / "loraloom.pot"
HEADER = "# Messages of LoRALoom. Placeholders in braces stay as they are.\n# Written by `make messages`."
# Babel's other fields (the time, its version, a translator) change without a reason, or say nothing.
STATED = ("Language", "Plural-Forms", "MIME-Version", "Content-Type", "Content-Transfer-Encoding")


class _Messages(Catalog):
    """A catalogue that changes only when a message does."""

    @property
    def mime_headers(self) -> list[tuple[str, str]]:  # type: ignore[override]
        return [(name, value) for name, value in super().mime_headers if name in STATED]


def catalogue(translations: Catalog | None = None) -> Catalog:
    """A catalogue of every template, with the translations that there are.

    Args:
        translations: of a language, some of them perhaps of messages that are gone.
    """
    made = _Messages(header_comment=HEADER, charset="utf-8", fuzzy=False)
    if translations is not None:
        made.locale, made.header_comment = translations.locale_identifier, translations.header_comment
    for template, files in templates().items():
        text = (template.text, template.plural) if template.plural else template.text
        old = None if translations is None else translations.get(template.text)
        if old is not None and old.id != text:
            old = None
        made.add(
            text,
            old.string if old else "",
            locations=[(file, None) for file in files],
            flags=[flag for flag in old.flags if flag == "fuzzy"] if old else (),
            user_comments=old.user_comments if old else (),
        )
    return made


def written(messages: Catalog) -> str:
    """The text of a `.pot` or `.po` file."""
    content = BytesIO()
    write_po(content, messages, width=100, sort_output=True, include_lineno=False)
    # Babel ends every line of the header but the last.
    return content.getvalue().decode().replace('8bit"\n', '8bit\\n"\n', 1)


def compiled(messages: Catalog) -> bytes:
    """The content of a `.mo` file; what is not translated is not in it."""
    content = BytesIO()
    write_mo(content, messages)
    return content.getvalue()


def update(file: Path) -> Sequence[str]:
    """Update a `.po` file and the `.mo` file beside it; return the ids without a translation."""
    with file.open("rb") as stream:
        messages = catalogue(read_po(stream))
    file.write_text(written(messages), encoding="utf-8")
    file.with_suffix(".mo").write_bytes(compiled(messages))
    return [str(message.id) for message in messages if message.id and not any(message.string)]


def main() -> None:
    messages = catalogue()
    FILE.write_text(written(messages), encoding="utf-8")
    print(f"{FILE}: {len(messages)} messages")
    for file in sorted(FOLDER.glob("*/LC_MESSAGES/loraloom.po")):
        print(f"{file}: {len(update(file))} of them are not translated")


if __name__ == "__main__":
    main()
