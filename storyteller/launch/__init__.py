"""Plans and starts runs, with one process or with torchrun. No torch."""
