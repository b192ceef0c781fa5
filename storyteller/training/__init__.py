"""The training process: set-up, loop, gradients, optimizers, checkpoints, and its reports."""
