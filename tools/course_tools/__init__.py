"""What maintainers and instructors of this course run: building, training, publishing."""
