"""Constraints by the augmented Lagrangian: :func:`.loop.solve_constrained`."""
