"""How good a story, and a model that tells, is: prompts, measures of text, intervals. No torch, no run folders."""
