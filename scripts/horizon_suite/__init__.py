"""The parts of long_horizon_suite.py: problems, methods, what is measured of a run, tables and the figure."""
