"""The optimal control problem of training: trajectory, shooting, curvature, certificate, and the result of a solve."""
