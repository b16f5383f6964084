"""Scripts for PEFT and the Trainer, analysed but never run: what fails in them, and the equivalent recipe."""
