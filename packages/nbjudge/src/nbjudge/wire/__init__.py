"""What crosses the line between the grader and a learner's process; used on both sides."""
