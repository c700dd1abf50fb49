"""What becomes of grades: where a class stands, and the way back to learning platforms."""
