"""Agreement among ranks that compute the same passes: on the chosen tokens, and on whether to stop."""

from __future__ import annotations

from collections.abc import Sequence

from loraloom.distributed.ranks import Ranks
from loraloom.errors import RunError
from loraloom.run.digests import digest_of_json
from loraloom.text.message import Message
from loraloom.training.signals import AgreedStop, StopRequest

STOPPED = Message("stopped before it finished")


class Agreement:
    """A comparison of tokens, and an agreement on whether to stop, among ranks that compute the same passes.

    Args:
        ranks: the processes.
        stop: the cancellation token of this process.
    """

    def __init__(self, ranks: Ranks, stop: StopRequest) -> None:
        self.ranks, self.stop = ranks, AgreedStop(stop)

    def compare(self, tokens: object = None) -> None:
        """Compare the tokens that the ranks have chosen, and agree on whether to stop.

        Args:
            tokens: a JSON value that must be equal on all ranks.

        Raises:
            RunError: the value differs between ranks.
        """
        asked = self.stop.own.signal_number if self.stop.has_arrived else None
        digest = digest_of_json(tokens)
        found = self.ranks.exchange([asked, digest])
        different = [str(rank) for rank, (_, own) in enumerate(found) if own != found[0][1]]
        if different:
            raise RunError(
                Message(
                    "the answers of rank {ranks} differ from those of rank 0", ranks=", ".join(different)
                ),
                fix=Message("Give all ranks the same kind of processor or GPU and the same versions."),
            )
        self.stop.agree([number for number, _ in found])

    def compare_newest(self, answers: Sequence[Sequence[int]]) -> None:
        """Compare the newest token of each answer between the ranks."""
        self.compare([[len(tokens), *tokens[-1:]] for tokens in answers])

    def heed(self) -> None:
        """Raise an error if the ranks have agreed to stop.

        Raises:
            Interrupted: the ranks have agreed to stop.
        """
        self.stop.raise_if_set(STOPPED)
