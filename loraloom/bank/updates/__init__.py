"""What an adapter adds to a linear: one file for each kind of adapter."""
