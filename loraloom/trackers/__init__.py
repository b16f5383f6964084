"""Trackers: the curves of a run in trackio, TensorBoard, Weights & Biases, MLflow or SwanLab.

Each tracker runs in a process of its own, which reads the events of the run:

    training ──▶ feed.py ──▶ process.py ══ JSON lines ══▶ worker.py ──▶ wandb_run.py, mlflow_run.py, …

so that one that hangs, raises or prints cannot stop, slow or garble a training. What it misses is in
events.jsonl anyway.
"""
