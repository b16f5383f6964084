"""Training on several processes: how they meet, share the rows of a step, and agree on what they do."""
