"""What the rain assignment's tests share."""


def close(a: float, b: float) -> bool:
    """Whether two amounts of rain agree to a hundredth."""
    return abs(a - b) < 0.01
