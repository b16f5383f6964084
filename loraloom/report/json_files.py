"""What a run's files may come to that do not fit together."""

from __future__ import annotations

# What documents that are whole each by itself raise if one names what another does not have.
DAMAGE = (KeyError, TypeError, AttributeError, ValueError, OverflowError)
