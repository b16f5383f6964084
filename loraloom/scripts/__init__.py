"""Scripts for PEFT and the Trainer, read and never run: what will fail in them, and the recipe they mean."""
