"""Generates stories from trained models, without torch."""
