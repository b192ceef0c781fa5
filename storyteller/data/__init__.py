"""From stories to batches: where stories come from, how they become tokens, and how tokens become batches. No torch."""
