"""Text notebooks to nbgrader's source assignments and release versions, and the fingerprints."""
