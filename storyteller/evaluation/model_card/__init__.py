"""A model's card: stories told from many prompts, all that can be measured of them, and the same of real stories."""
