"""The rows of a comparison and the answers to them, which can be interrupted and resumed."""
