"""The training of a recipe's experiments in one loop: passes, optimizers, evaluations, checkpoints."""
