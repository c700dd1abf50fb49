"""The lessons and the documentation as a static site: `make site`."""
