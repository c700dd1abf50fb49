"""The grader's side of an execution: kernels, clients, cells."""
