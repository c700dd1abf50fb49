"""Maintainer half: the corpus, the training loop and the abilities report of the shipped model."""
