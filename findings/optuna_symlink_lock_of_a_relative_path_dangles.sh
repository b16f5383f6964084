#!/usr/bin/env bash
# Optuna's JournalFileBackend locks by a symbolic link that leads nowhere if the path is relative and has a folder.
#
# Stated: `JournalFileBackend("runs/journal.log")` takes its default lock, JournalFileSymlinkLock, by linking
# runs/journal.log.lock to "runs/journal.log", which the system looks for in runs/. Who waits for the lock judges its age
# by `os.stat` of the link; that fails, and is repeated without a pause and without looking at `grace_period`: so a lock
# that a killed process has left is waited for without end. (Read in `acquire`; not tried here, where the lock is only
# taken and released.) With an absolute path, or with JournalFileOpenLock, there is a file to judge. optuna 4.9.0.
# Exit 1 if it is otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-cache-dir optuna==4.9.0
cat > "$folder/try.py" <<'PY'
import os

import optuna
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock, JournalFileSymlinkLock

os.mkdir("runs")
path = "runs/journal.log"
JournalFileBackend(path)  # makes the file
found = []
for lock in (JournalFileSymlinkLock(path), JournalFileSymlinkLock(os.path.abspath(path)), JournalFileOpenLock(path)):
    lock.acquire()
    name = f"{path}.lock"
    assert os.path.lexists(name)
    found.append(os.path.exists(name))
    lock.release()
print(f"optuna {optuna.__version__}: a lock that is held can be looked at: relative link {found[0]}, "
      f"absolute link {found[1]}, file {found[2]}")
raise SystemExit(found != [False, True, True])
PY
cd "$folder"
"$folder/venv/bin/python" try.py
