"""A second course, foreign to the package's own: see course.py."""
