"""What to try next, and what became of it: the parts of a search.

`space` is what may vary and `reading` its file, `request` checks what is asked for, `together` plans,
`study` lets Optuna decide, `halving` says who is too weak to go on, `ledger` keeps what became of every
trial, `under_way` is the loop over all of them, `table` shows it. `commands/search.py` begins and ends it.
"""
