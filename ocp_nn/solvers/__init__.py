"""Ours, an inexact augmented Lagrangian by forward dynamic programming; and IPOPT and others on transcriptions."""
