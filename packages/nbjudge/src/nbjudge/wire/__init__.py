"""What crosses the line between the grader and a student's process; used on both sides."""
