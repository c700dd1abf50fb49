"""Mutation testing of the hidden tests: small faults put into every reference solution.

`make mutants` runs every mutant against the hidden tests of its exercise alone, without the visible
check. A survivor is a hole in the tests, or stands in `equivalent.toml` with its reason.

The libraries for this (mutmut, cosmic-ray) change modules on disk and start a test runner for each
mutant. A reference here is a cell of a lesson and its tests are other cells, so only the operators
are ours and Python's `ast` does the rest.
"""
