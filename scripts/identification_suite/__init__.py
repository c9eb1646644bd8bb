"""Methods, settings, published figures and tables of ``bench_identification.py``."""
