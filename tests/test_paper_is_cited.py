"""The paper whose idea this follows is named wherever a reader may begin, with what was taken from it."""

from __future__ import annotations

from pathlib import Path

import pytest

import ocp_nn

ROOT = Path(__file__).parents[1]
PLACES = {
    "README": (ROOT / "README.md").read_text(encoding="utf-8"),
    "CITATION.cff": (ROOT / "CITATION.cff").read_text(encoding="utf-8"),
    "notebooks": (ROOT / "notebooks/README.md").read_text(encoding="utf-8"),
    "package": ocp_nn.__doc__ or "",
}
AUTHORS = ("Evens", "Latafat", "Themelis", "Suykens", "Patrinos")
TITLE = "Neural Network Training as an Optimal Control Problem: An Augmented Lagrangian Approach"


@pytest.mark.parametrize("place", PLACES)
def test_it_is_named_in_full_and_only_its_abstract_was_known(place):
    words = " ".join(PLACES[place].split())
    assert TITLE in words and "2021" in words and "arXiv:2103.14343" in words
    assert [name for name in AUTHORS if name not in words] == []
    assert "abstract" in words and "our own" in words.replace("the authors' own", "our own")


def test_the_citation_file_is_of_this_version_and_has_what_its_format_asks_for():
    yaml = pytest.importorskip("yaml")
    content = yaml.safe_load(PLACES["CITATION.cff"])
    assert {"cff-version", "message", "title", "authors"} <= content.keys()
    assert content["version"] == ocp_nn.__version__
    (paper,) = content["references"]
    assert [author["family-names"] for author in paper["authors"]] == list(AUTHORS)
    assert f"doi.org/{paper['doi']}" in PLACES["README"]
