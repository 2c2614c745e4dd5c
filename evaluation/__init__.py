"""Predictions and labels to what may be said about a model: metrics with intervals, comparisons, reports, the card."""
