"""Untrusted: runs in the learner's process. Imports nothing of the engine but `wire`."""
