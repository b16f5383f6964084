"""Trackers, which show a run's curves: trackio, TensorBoard, Weights & Biases, MLflow and SwanLab.

Each tracker runs in a process of its own, which reads the events of the run:

    training ──▶ feed.py ──▶ process.py ══ JSON lines ══▶ tracker_process.py ──▶ wandb_run.py, …

so that a tracker that hangs, fails or prints cannot stop or slow training, or garble its output. Events that
a tracker misses are in events.jsonl anyway.
"""
