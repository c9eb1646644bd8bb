"""The problem as a nonlinear program, by single, partial or multiple shooting, and CasADi's solvers on it."""
