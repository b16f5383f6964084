"""Languages: their codes in a tokenizer, how rows state them, and the balance of language pairs."""
