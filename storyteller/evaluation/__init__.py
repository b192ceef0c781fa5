"""Evaluation of models: scores, text metrics, model cards, comparisons and timelines."""
