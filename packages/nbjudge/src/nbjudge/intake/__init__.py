"""From what a learner handed in to a notebook that can be run."""
