"""Hyperparameter search: the choice of what to try next, and the result of every trial.

`space` defines what may vary and `space_file` reads it, `request` validates the options, `concurrency`
plans, `study` draws trials with Optuna, `halving` finds trials to stop early, `ledger` records their
results, `driver` is the loop over all trials, `trial_table` shows them. `commands/search.py` starts and ends
a search.
"""
