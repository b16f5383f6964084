"""Terminal output: progress on stderr (`display`), results on stdout (`results`)."""

from loraloom.console.display import Display
from loraloom.console.results import (
    print_answers,
    print_batch,
    print_comparison,
    print_findings,
    print_range_test,
    print_table,
)
from loraloom.console.streams import put

__all__ = [
    "Display",
    "print_answers",
    "print_batch",
    "print_comparison",
    "print_findings",
    "print_range_test",
    "print_table",
    "put",
]
