"""A whole class: one process owns the gradebook; summary and report."""
