"""Predictor: tasks to predictions within a deadline, on one snapshot."""

from backend.predictor.predictor import Predictions, Predictor, TaskPrediction, expected_iou

__all__ = ["Predictions", "Predictor", "TaskPrediction", "expected_iou"]
