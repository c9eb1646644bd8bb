"""The parts of ``scripts/bench.py``: problems, peers, measures, growth, UCI errors, and what is shown of them."""
