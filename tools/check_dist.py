"""Check what a wheel and an sdist contain, before they are installed anywhere.

    python -m tools.check_dist dist

Everything that the package needs at run time is in both, each file of others with its licence, and nothing of
a developer's machine.
"""

from __future__ import annotations

import sys
import tarfile
import zipfile
from email.parser import HeaderParser
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "loraloom"
# Files that no release contains.
UNWANTED = ("__pycache__", ".pyc", ".venv", "/runs/", ".DS_Store", ".ipynb_checkpoints", "/.git/")
# What is shipped and was not written for this project, and the licence beside it.
OF_OTHERS = {
    "web/pages/static/vendor/htmx.min.js": "web/pages/static/vendor/htmx.LICENSE.txt",
    "web/pages/static/vendor/htmx-sse.min.js": "web/pages/static/vendor/htmx-sse.LICENSE.txt",
}
LICENCES = "Apache-2.0 AND 0BSD AND CC0-1.0"
LARGEST = 20_000_000  # bytes of a wheel; the starter is most of it


def package_files() -> set[str]:
    """Every file of the package, relative to it."""
    return {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def faults_of_names(names: list[str], prefix: str) -> list[str]:
    """What is missing in an archive, and what should not be in it.

    Args:
        names: of all files.
        prefix: of the package's folder in it.
    """
    inside = {name.removeprefix(prefix) for name in names if name.startswith(prefix)}
    found = [f"{name} is missing" for name in sorted(package_files() - inside)]
    found += [f"{name} does not belong there" for name in names if any(part in name for part in UNWANTED)]
    vendored = {name for name in inside if "/vendor/" in name and name.endswith((".js", ".css", ".woff2"))}
    for name in sorted(vendored):
        if OF_OTHERS.get(name) not in inside:
            found.append(f"{name} has no licence beside it")
    return found


def faults_of_wheel(wheel: Path) -> list[str]:
    """What is wrong with a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (metadata,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        headers = HeaderParser().parsestr(archive.read(metadata).decode())
    found = faults_of_names(names, "loraloom/")
    info = metadata.rpartition("/")[0]
    for licence in ("LICENSE", *(f"loraloom/{file}" for file in OF_OTHERS.values())):
        if f"{info}/licenses/{licence}" not in names:
            found.append(f"{licence} is missing among the licences")
    if others := [name for name in names if not name.startswith(("loraloom/", info))]:
        found.append(f"{others[0]} would be installed beside the package")
    if wheel.stat().st_size > LARGEST:
        found.append(f"it has {wheel.stat().st_size:,} bytes")
    return found + faults_of_metadata(headers)


def faults_of_metadata(headers: object) -> list[str]:
    """What is wrong with a wheel's metadata: version, licence, changelog, extras without a package."""
    get, get_all = headers.get, headers.get_all  # type: ignore[attr-defined]
    found = []
    version = get("Version", "")
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    if not any(f"## [{name}]" in changelog for name in (version, "Unreleased")):
        found.append(f"CHANGELOG.md does not mention {version}")
    if get("License-Expression") != LICENCES:
        found.append(f"the licence is not {LICENCES}")
    if not get_all("Classifier") or any("License ::" in each for each in get_all("Classifier")):
        found.append("classifiers are missing, or name a licence, which License-Expression does")
    needed = [each for each in get_all("Requires-Dist", []) if "extra ==" not in each]
    heavy = ("datasets", "pyarrow", "pandas", "fastapi", "ctranslate2")
    found += [f"{each} belongs into an extra" for each in needed if each.startswith(heavy)]
    return found


def faults_of_sdist(sdist: Path) -> list[str]:
    """What is wrong with an sdist."""
    with tarfile.open(sdist) as archive:
        names = archive.getnames()
    top = names[0].split("/")[0]
    found = faults_of_names(names, f"{top}/loraloom/")
    for name in ("pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "Makefile", "tests/conftest.py"):
        if f"{top}/{name}" not in names:
            found.append(f"{name} is missing")
    return found


def main(folder: Path) -> int:
    """Check all archives of a folder, and say what was found."""
    wheels, sdists = sorted(folder.glob("*.whl")), sorted(folder.glob("*.tar.gz"))
    if not wheels or not sdists:
        print(f"{folder}: there is no wheel or no sdist")
        return 1
    found = [f"{path.name}: {fault}" for path in wheels for fault in faults_of_wheel(path)]
    found += [f"{path.name}: {fault}" for path in sdists for fault in faults_of_sdist(path)]
    print("\n".join(found) or f"{', '.join(path.name for path in (*wheels, *sdists))}: complete")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
