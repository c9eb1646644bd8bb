"""Studies of formulations and solvers: conditioning, and solvers side by side."""
