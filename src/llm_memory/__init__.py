"""Memory and Processing in LLMs: what the lessons import."""
