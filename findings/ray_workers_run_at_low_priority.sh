#!/usr/bin/env bash
# Ray's workers run at niceness 15 unless RAY_worker_niceness says otherwise.
#
# Stated: with `ray.init(address="local")` on Linux, a task runs in a process of niceness 15 above its driver's; on a machine
# with other work, a Ray task gets a small part of the time that the driver would get. The variable
# RAY_worker_niceness, read when Ray is started and written in mixed case, changes it. ray 2.60.0.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-cache-dir ray==2.60.0
cat > "$folder/niceness.py" <<'PYTHON'
import os

import ray


@ray.remote
def niceness():
    return os.nice(0)


ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
print(ray.get(niceness.remote()) - os.nice(0))
PYTHON
cd "$folder"
by_default=$("$folder/venv/bin/python" niceness.py 2>/dev/null)
changed=$(RAY_worker_niceness=0 "$folder/venv/bin/python" niceness.py 2>/dev/null)
echo "ray 2.60.0: niceness of a task above its driver's: $by_default by default, $changed with RAY_worker_niceness=0"
[ "$by_default" = 15 ] && [ "$changed" = 0 ]
