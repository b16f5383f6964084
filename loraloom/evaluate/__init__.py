"""What a base and its adapters do on held-out rows: losses, answers, figures."""
