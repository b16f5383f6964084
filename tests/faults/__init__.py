"""Kills, damage, full disks and signals."""

import pytest

pytest.register_assert_rewrite("tests.faults.reference")  # so that its asserts show what differs
