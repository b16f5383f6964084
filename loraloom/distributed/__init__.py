"""Training in several processes: how they meet, share the rows of a step, and agree on decisions."""
