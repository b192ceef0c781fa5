"""From stories to batches: sources of stories, cleaning, tokenization and batching. No torch."""
