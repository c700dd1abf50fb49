"""The fork server: forks sandboxed kernels and judges, and holds no data of the course."""
