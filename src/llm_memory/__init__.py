"""Memory and Processing in LLMs: what the lessons import, and the tools that instructors run."""
