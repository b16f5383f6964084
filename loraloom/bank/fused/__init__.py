"""Adapters of equal shape as one: few kernels a linear, and nothing that the host waits for."""
