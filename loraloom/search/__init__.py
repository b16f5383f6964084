"""Hyperparameter search: the choice of what to try next, and the result of every trial.

`space` defines what may vary and `space_file` reads it, `request` validates the options, `concurrency`
plans, `study` lets Optuna decide, `halving` finds trials to stop early, `ledger` records the result of every
trial, `driver` is the loop over all of them, `trial_table` shows it. `commands/search.py` starts and ends it.
"""
