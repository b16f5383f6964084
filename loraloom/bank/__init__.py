"""Many low-rank adapters on one frozen base, in one pass."""
