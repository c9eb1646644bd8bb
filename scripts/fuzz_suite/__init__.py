"""Cases at random, each of one seed, and what has to hold for every one of them.

An *area* is a module with ``run(rng, folder)``: it draws a case, runs it, and raises :class:`words.Fault` where
something does not hold.  ``folder`` is empty, and the case's own.  ``prepare()``, where there is one, makes what its
cases share.  :mod:`fuzz_suite.cases` runs cases of all areas and adds what holds everywhere: no exception but in our
words, no warning but our own, nothing printed, nothing outside left changed.
"""

from __future__ import annotations
