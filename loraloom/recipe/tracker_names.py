"""Names of experiment trackers, as `training.report_to` has them; `loraloom/trackers/` writes to them."""

from __future__ import annotations

from typing import Any, Literal, get_args

from loraloom.text.message import Message

TrackerName = Literal["trackio", "tensorboard", "wandb", "mlflow", "swanlab"]
TRACKERS: tuple[str, ...] = get_args(TrackerName)
# For `report_to: true`: it is local, and needs neither an account nor a server.
DEFAULT_TRACKER = "trackio"


def read_trackers(value: Any) -> list[str]:
    """Normalize the value of `report_to` to a list of names, each once.

    Args:
        value: a name, `wandb, tensorboard`, a list, `none`, or `true` for the local tracker.

    Raises:
        ValueError: the value has another type, or names no tracker.
    """
    if value is None or value is False:
        return []
    if value is True:
        return [DEFAULT_TRACKER]
    names = value.split(",") if isinstance(value, str) else value
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise ValueError(Message("must be a tracker's name or a list of names"))
    names = [name.strip().lower() for name in names if name.strip()]
    if names == ["none"]:
        return []
    for name in names:
        if name not in TRACKERS:
            raise ValueError(
                Message(
                    "must name trackers that LoRALoom knows: {known}, or `none`; `{name}` is not one of them",
                    known=", ".join(TRACKERS),
                    name=name,
                )
            )
    return list(dict.fromkeys(names))
