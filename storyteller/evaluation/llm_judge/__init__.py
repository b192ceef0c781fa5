"""An LLM judge: the rubric, and the client that asks a server for grades."""
