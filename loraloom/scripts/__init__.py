"""Scripts for PEFT and the Trainer, read but never run: what fails in them, and the equivalent recipe."""
