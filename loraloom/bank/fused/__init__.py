"""Adapters of equal shape computed as one tensor: few kernels per linear, and no waiting for the device."""
