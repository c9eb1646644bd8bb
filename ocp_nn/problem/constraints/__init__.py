"""Constraints on controls, states and outputs, and sparsity of controls, in one form that every solver here takes."""
