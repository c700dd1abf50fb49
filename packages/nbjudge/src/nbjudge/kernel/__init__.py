"""Untrusted: runs in the student's process. Imports nothing of the engine but `wire`."""
