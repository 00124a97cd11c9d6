"""Predictor: tasks to predictions within a deadline, on one snapshot."""

from backend.predictor.predictor import Predictions, Predictor, TaskPrediction

__all__ = ["Predictions", "Predictor", "TaskPrediction"]
