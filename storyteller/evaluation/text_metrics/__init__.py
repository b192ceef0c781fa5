"""Automatic metrics of generated stories. No torch, no run folders."""
