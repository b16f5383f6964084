"""Training every experiment of a recipe in one loop: plan, optimizers, loop, checkpoints."""
