"""Names of experiment trackers, as in `training.report_to`; `loraloom/trackers/` writes to them."""

from __future__ import annotations

from typing import Literal, get_args

TrackerName = Literal["trackio", "tensorboard", "wandb", "mlflow", "swanlab"]
TRACKERS: tuple[str, ...] = get_args(TrackerName)
