"""`python -m loraloom.workers RUN --device cuda:1`: a worker on one device of this machine."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from loraloom.errors import Interrupted, LoRALoomError
from loraloom.text.catalogue import rendered
from loraloom.workers.join import join_run


def main() -> None:
    """Take part in a run until it has ended."""
    parser = argparse.ArgumentParser(prog="python -m loraloom.workers")
    parser.add_argument("run", type=Path)
    parser.add_argument("--device")
    parser.add_argument("--base", type=Path)
    parser.add_argument("--data", type=Path)
    asked = parser.parse_args()
    try:
        join_run(asked.run, base=asked.base, data=asked.data, device=asked.device)
    except LoRALoomError as error:  # the driver has been informed, too
        print(rendered(error.as_message()), file=sys.stderr)
        sys.exit(1)
    except Interrupted as stop:
        sys.exit(128 + stop.signal_number)


if __name__ == "__main__":
    main()
