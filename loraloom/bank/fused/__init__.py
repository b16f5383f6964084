"""Adapters of equal shape as one tensor: few kernels per linear, and no wait for the device."""
