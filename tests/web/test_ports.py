"""The port of a server: its own, the next free one, or a message that names it."""

from __future__ import annotations

import pytest

from loraloom.errors import LoRALoomError, RecipeError
from loraloom.web.ports import bind


def test_a_port_in_use_is_named_or_the_next_one_is_taken() -> None:
    with bind("127.0.0.1", 0) as first:
        taken = first.getsockname()[1]
        with pytest.raises(LoRALoomError, match=f"127.0.0.1:{taken}.*--port") as error:
            bind("127.0.0.1", taken)
        assert not isinstance(error.value, RecipeError)
        with bind("127.0.0.1", taken, 20) as second:
            assert taken < second.getsockname()[1] < taken + 20


def test_an_address_of_another_machine_is_refused_at_once() -> None:
    with pytest.raises(LoRALoomError, match=r"192\.0\.2\.1:8700"):
        bind("192.0.2.1", 8700, 20)
