"""Problems, methods and tables of ``bench_constrained.py``."""
