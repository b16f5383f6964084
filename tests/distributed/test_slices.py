"""Each row of a step is computed by one rank, and ranks have about as many tokens."""

from __future__ import annotations

from dataclasses import replace

import pytest
from torch.distributed import TCPStore

from loraloom.data.encoding import EncodedSet
from loraloom.distributed.launch import Launch, read_launch, require_known_place
from loraloom.distributed.meeting import Meeting, RankError
from loraloom.distributed.process_group import ProcessGroup
from loraloom.distributed.ranks import divide
from loraloom.errors import RunError
from loraloom.training.signals import AgreedStop, StopRequest
from tests.parity.rig import random_rows

ROWS = random_rows(40, seed=3)
PLANS = [[list(range(8))], [list(range(4)), [9, 8, 7]], [[5]], [[n, n + 1] for n in range(0, 40, 2)]]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64])
@pytest.mark.parametrize("plan", PLANS, ids=len)
def test_every_row_belongs_to_one_rank(plan: list[list[int]], size: int) -> None:
    slices = [divide(plan, ROWS, rank, size) for rank in range(size)]
    for number, rows in enumerate(plan):
        found = [row for own in slices for row in rows[slice(*own[number])]]
        assert found == rows


def test_ranks_have_about_as_many_tokens() -> None:
    plan = PLANS[-1]
    largest = max(ROWS.num_tokens(range(40)))
    slices = [divide(plan, ROWS, rank, 4) for rank in range(4)]
    tokens = [
        sum(int(ROWS.num_tokens(rows[slice(*each)]).sum()) for rows, each in zip(plan, own, strict=True))
        for own in slices
    ]
    assert max(tokens) - min(tokens) <= 2 * largest


def test_with_as_many_micro_batches_as_ranks_none_is_cut() -> None:
    even = EncodedSet([[1, 2]] * 8, [[1]] * 8)
    slices = [divide([[0, 1], [2, 3], [4, 5], [6, 7]], even, rank, 4) for rank in range(4)]
    assert [[stop - first for first, stop in own] for own in slices] == [
        [2 if number == rank else 0 for number in range(4)] for rank in range(4)
    ]


TORCHRUN = {"RANK": "1", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
MEETING = {"MASTER_ADDR": "node0", "MASTER_PORT": "29500"}


def test_a_launch_is_read_from_what_torchrun_sets() -> None:
    assert read_launch({}).is_alone
    assert read_launch({"RANK": "0", "WORLD_SIZE": "1"}).is_alone
    launch = read_launch({**TORCHRUN, **MEETING, "LORALOOM_RANK_TIMEOUT": "90"})
    assert launch == Launch(1, 4, 1, 2, "node0", 29500, 90.0)
    assert launch.is_follower


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"RANK": "4"}, "RANK"),
        ({"RANK": "-1"}, "RANK"),
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE"),
        ({"LOCAL_RANK": "2"}, "LOCAL_RANK"),
        ({"MASTER_PORT": "0"}, "MASTER_PORT"),
        ({"MASTER_ADDR": ""}, "MASTER_ADDR"),
        ({"LORALOOM_RANK_TIMEOUT": "soon"}, "LORALOOM_RANK_TIMEOUT"),
        ({"LORALOOM_RANK_TIMEOUT": "nan"}, "LORALOOM_RANK_TIMEOUT"),
    ],
)
def test_what_contradicts_itself_is_named(changed: dict[str, str], named: str) -> None:
    with pytest.raises(RunError) as raised:
        read_launch({**TORCHRUN, **MEETING, **changed})
    assert raised.value.problems[0].where == named


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        # What accelerate 1.15.0 sets for `launch --cpu --num_processes 2`, which starts one process (seen).
        ({"ACCELERATE_USE_CPU": "True", **MEETING}, "ACCELERATE_USE_CPU"),
        ({"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "1"}, "OMPI_COMM_WORLD_SIZE"),
        ({"PMI_SIZE": "3"}, "PMI_SIZE"),
    ],
)
def test_a_process_that_knows_nothing_of_the_others_is_refused(environ: dict[str, str], named: str) -> None:
    with pytest.raises(RunError) as raised:
        require_known_place(environ)
    (problem,) = raised.value.problems
    assert problem.where == named
    assert "torchrun" in problem.fix
    assert read_launch(environ).is_alone  # for whatever is not trained by ranks
    for known in ({**TORCHRUN, **MEETING}, {"RANK": "0", "WORLD_SIZE": "1"}):  # RANK says which one it is
        require_known_place({**environ, **known})
    assert not read_launch({**environ, **TORCHRUN, **MEETING}).is_alone


def test_one_process_of_accelerate_or_mpi_is_alone() -> None:
    for environ in (
        {"ACCELERATE_USE_CPU": "True"},
        {"ACCELERATE_USE_CPU": "False", **MEETING},
        {"OMPI_COMM_WORLD_SIZE": "1"},
    ):
        require_known_place(environ)
        assert read_launch(environ).is_alone


def test_ranks_stop_when_they_have_agreed_and_not_before() -> None:
    own = StopRequest()
    stop = AgreedStop(own)
    own.signal_number = 15
    assert stop.has_arrived
    assert not stop
    stop.agree([None, None])
    assert not stop
    stop.agree([15, None])
    assert stop
    assert stop.signal_number == 15


def test_a_rank_that_does_not_come_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's own wait for it would run no signal handler, and read no reason."""
    agent = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # as torchrun's
    where = {"RANK": 0, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": agent.port}
    for name, value in {**where, "TORCHELASTIC_USE_AGENT_STORE": "True"}.items():
        monkeypatch.setenv(name, str(value))
    with pytest.raises(RankError, match="rank 1"):
        ProcessGroup(Meeting(replace(read_launch(), timeout=1.0)))
