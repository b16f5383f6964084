"""The rows of a comparison and the answers to them, interruptible."""
