#!/usr/bin/env bash
# filelock 3 (3.29.0 here): a forked worker that outlives its killed parent, as a data loader's may, keeps the
# parent's FileLock, so a restarted job is refused by a lock whose holder is dead. From 4.0.0 on the child lets go
# of it when it is forked, although flock(2) itself belongs to the open file that a child inherits.
# Exit 1 if it is otherwise.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
cat > "$dir/try.py" <<'PY'
import multiprocessing
import os
import signal
import sys
import time

import filelock

path, expected = sys.argv[1], sys.argv[2]
reader, writer = os.pipe()
parent = os.fork()
if parent == 0:
    lock = filelock.FileLock(path)
    lock.acquire()
    worker = multiprocessing.get_context("fork").Process(target=time.sleep, args=(10,))
    worker.start()
    os.write(writer, f"{worker.pid}\n".encode())
    time.sleep(10)
worker = int(os.read(reader, 16))
os.kill(parent, signal.SIGKILL)
os.waitpid(parent, 0)
try:
    filelock.FileLock(path).acquire(timeout=1)
    seen = "free"
except filelock.Timeout:
    seen = "held"
os.kill(worker, signal.SIGKILL)
print(f"filelock {filelock.__version__}: holder killed, its forked worker alive: {seen}")
os._exit(seen != expected)
PY
"$dir/venv/bin/pip" install -q filelock==3.29.0
"$dir/venv/bin/python" "$dir/try.py" "$dir/old" held
"$dir/venv/bin/pip" install -q filelock==4.2.12
"$dir/venv/bin/python" "$dir/try.py" "$dir/new" free
