"""The language model: torch lives here and nowhere else."""
