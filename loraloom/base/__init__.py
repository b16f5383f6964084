"""The frozen base model: loading it, checking it, running it, and finding the modules to adapt."""
