"""Experiment trackers: TensorBoard, MLflow and Weights & Biases, each an extra; `Tracker` is for others."""

from farshot.trackers.adapters import MLflow, TensorBoard, WeightsAndBiases, open_tracker
from farshot.training.tracking import Several, Tracker, track

__all__ = ["MLflow", "Several", "TensorBoard", "Tracker", "WeightsAndBiases", "open_tracker", "track"]
