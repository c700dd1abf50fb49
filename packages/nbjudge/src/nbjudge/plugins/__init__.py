"""nbgrader's own commands within the wall: its plugins, and what it has no plugin for.

What comes in by `collect` and `zip_collect`, and what goes out by `export`, `generate_feedback` and
`release_feedback`. Each refuses by name what it cannot take, and goes on with the rest.
"""
