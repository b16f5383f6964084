"""The rows of a comparison and the answers to them; answering can be interrupted and resumed."""
