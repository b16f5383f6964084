"""Languages: their codes in a tokenizer, what rows say of them, and how rows of many pairs are balanced."""
