"""GPT-2 in torch, its fast paths on CPUs and GPUs, and what scores and loads it."""
