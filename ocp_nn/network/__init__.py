"""Stages: activations, layers, networks of them, their linearisation, and the trained network in the data's units."""
