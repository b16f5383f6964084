"""Write `loraloom/locale/loraloom.pot`, from which a catalogue of translations starts: `make messages`.

A translator begins or updates a language with `pybabel init` or `pybabel update`, and `pybabel compile` makes
the file that `gettext.translation("loraloom", "loraloom/locale", ["zh_CN"])` reads. The places have no line
numbers, so that the file changes only when a message does.
"""

from __future__ import annotations

from io import BytesIO

from babel.messages.catalog import Catalog
from babel.messages.pofile import write_po

from tools.messages.templates import PACKAGE, templates

FILE = PACKAGE / "locale" / "loraloom.pot"
UNSTATED = (
    '"Project-Id',
    '"Report-',
    '"POT-Creation',
    '"PO-Revision',
    '"Last-',
    '"Language-Team',
    '"Generated-By',
)
HEADER = "# Messages of LoRALoom. Placeholders in braces stay as they are.\n# Written by `make messages`."


def catalogue() -> Catalog:
    """A catalogue of every template, without translations."""
    made = Catalog(project="loraloom", header_comment=HEADER, charset="utf-8", fuzzy=False)
    for template, files in templates().items():
        text = (template.text, template.plural) if template.plural else template.text
        made.add(text, locations=[(file, None) for file in files])
    return made


def main() -> None:
    content = BytesIO()
    write_po(content, catalogue(), width=100, sort_output=True, include_lineno=False)
    # Babel's fields for the time, its own version and a translator change without a reason, or say nothing.
    lines = content.getvalue().decode().splitlines(keepends=True)
    kept = [line for line in lines if not line.startswith(UNSTATED)]
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text("".join(kept), encoding="utf-8")
    print(f"{FILE}: {len(templates())} messages")


if __name__ == "__main__":
    main()
