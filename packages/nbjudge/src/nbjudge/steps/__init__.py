"""nbgrader preprocessors, named by the configuration."""
