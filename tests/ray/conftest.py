"""Clusters of this machine, and what is trained on them."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.search.conftest import recipe, searched

__all__ = ["recipe", "searched"]

STORE_BYTES = 100 * 2**20


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Ray opens sockets and files that its own threads close."""
    for item in items:
        if "tests/ray" in str(item.path):
            item.add_marker(pytest.mark.filterwarnings("default"))


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A cluster whose nodes are processes of this machine; it has a head of one CPU."""
    import ray
    from ray.cluster_utils import Cluster

    # Workers are as important as their driver here, where all share two cores.
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112  # the name is Ray's
    os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"
    made = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 1, "object_store_memory": STORE_BYTES, "include_dashboard": False},
    )
    yield made
    ray.shutdown()
    made.shutdown()


@pytest.fixture
def connected(cluster: Any) -> Iterator[Any]:
    """The cluster with a second node, and this process as its driver."""
    import ray

    node = cluster.add_node(num_cpus=1, object_store_memory=STORE_BYTES)
    ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.ERROR)
    yield cluster
    ray.shutdown()
    cluster.remove_node(node)


@pytest.fixture(scope="session")
def training(tiny: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe of four experiments of one step count."""
    from tests.search.small import write_recipe_file

    file = write_recipe_file(tmp_path_factory.mktemp("trained"), tiny("mt5"))
    document = json.loads(file.read_text(encoding="utf-8"))
    document["experiments"] = {f"e{number}": {"lora": {"r": number}} for number in (1, 2, 3, 4)}
    file.write_text(json.dumps(document), encoding="utf-8")
    return file
