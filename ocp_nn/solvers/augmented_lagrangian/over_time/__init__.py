"""The augmented Lagrangian over time: one parameter vector for all steps, hidden states, horizons of thousands."""
