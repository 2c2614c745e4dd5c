"""Predictions to numbers: accuracy, calibration, intervals, selective answers."""
