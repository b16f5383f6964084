"""Turn the f-strings and literals that people read into `Message` templates.

    python -m tools.convert_messages loraloom/data loraloom/recipe   # convert these folders or files
    python -m tools.convert_messages --list                          # list what is no message yet

`f"{path} has {len(rows):,} rows"` becomes
`Message("{path} has {num_rows:,} rows", path=path, num_rows=len(rows))`. `tools/messages/flow.py` finds the
expressions that people read, over the whole package, also if only some files are converted. Converted are:

- f-strings and literals, also if they are implicitly concatenated, added, or branches of a condition;
- `"; ".join(messages)` becomes `joined("; ", messages)`, which keeps the data of each;
- within an f-string: `{x.rstrip('.')}` becomes `{x:clause}`; `{'s' * (n > 1)}` and conditions between
  literals become a condition between whole sentences, so that each can be translated; in a long sentence,
  a condition that does not split a word stays a value.

Names of placeholders come from the expressions, and are unique in a message. Every text stays as it is to the
byte. A second run changes nothing. What cannot be converted, such as a string with a comment inside, is left
and listed. Imports are added, and `ruff` sorts them and formats the files.

`flow.py` misses texts that reach people in a way that it does not know, such as tables and help texts.
Therefore `tools/messages/remaining.py` also finds every literal of four or more English words, and
`tools/messages/allowed.py` lists those that stay as they are, with the reason. A shorter text that both miss
cannot be translated: add its function to `SHOWN` in `flow.py`, or write `Message` by hand.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tools.messages.conversion import Site, all_sites
from tools.messages.files import convert
from tools.messages.flow import Flow
from tools.messages.remaining import mark_remaining


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("paths", nargs="*", type=Path)
    parser.add_argument("--list", action="store_true", help="change nothing")
    options = parser.parse_args(arguments)
    flow = mark_remaining(Flow())
    if options.list or not options.paths:
        sites = all_sites(flow)
        print(*(f"{site.where}: {site.why or site.new}" for site in sites), sep="\n")
        print(f"{len(sites)} texts are no messages yet")
        return 0
    chosen_paths = [path.resolve() for path in options.paths]
    left: list[Site] = []
    changed = []
    for module in flow.modules:
        if any(module.path == path or path in module.path.parents for path in chosen_paths):
            left += convert(flow, module)
            changed.append(str(module.path))
    for words in (["check", "--fix", "--select", "I,UP034", "--quiet"], ["format", "--quiet"]):
        subprocess.run(["ruff", *words, *changed], check=False)
    print(*(f"{site.where}: left as it is: {site.why}" for site in left), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
