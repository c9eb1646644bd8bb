"""What a network's outputs mean: the inverse of a link function takes them to probabilities or rates.

In a generalised linear model (McCullagh and Nelder 1989, section 2.2) the link function g takes the mean of the target
to the linear predictor z = g(mean).  Here z is the network's output, and what a model predicts is the mean:

| link       | mean of the target        | its loss                    |
|------------|---------------------------|-----------------------------|
| `identity` | z                         | squares, Huber, one's own   |
| `logistic` | 1 / (1 + exp(-z))         | logistic: probability of 1  |
| `softmax`  | exp z / sum_a exp z_a     | softmax: of every class     |
| `log`      | exp z                     | Poisson: expected count     |

As with activations, each has one symbolic form for CasADi and a NumPy twin; neither overflows where the mean does not,
and small probabilities keep all their digits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import casadi as ca
import numpy as np
from numpy.typing import NDArray
from scipy import special

from ..base import checks

__all__ = ["LINKS", "Link", "check_classes", "link_named"]

Array = NDArray[np.float64]
Label = str | int | float


@dataclass(frozen=True, kw_only=True)
class Link:
    """The inverse of a link function.

    Attributes
    ----------
    name : str
        Key in :data:`LINKS`.
    symbolic : callable
        On a CasADi column, one sample's outputs.
    value : callable
        On a table (N, outputs), one row a sample.
    meaning : str
        What comes out, in words.
    """

    name: str
    symbolic: Callable[[Any], Any]
    value: Callable[[Array], Array]
    meaning: str

    def __reduce__(self) -> tuple[Callable[[str], Link], tuple[str]]:
        # the functions are lambdas: a pickle holds the name
        return link_named, (self.name,)


def _softmax_symbolic(z: Any) -> Any:
    weights = ca.exp(z - ca.mmax(z))
    return weights / ca.sum1(weights)


LINKS: dict[str, Link] = {
    link.name: link
    for link in (
        Link(name="identity", symbolic=lambda z: z, value=lambda z: z, meaning="in the data's own units"),
        Link(
            name="logistic",
            # no exponent is positive, and the derivative at zero is right (CasADi halves it where fmin ties)
            symbolic=lambda z: ca.exp(ca.fmin(z, 0)) / (1 + ca.exp(-ca.fabs(z))),
            value=special.expit,
            meaning="probabilities",
        ),
        Link(
            name="softmax",
            symbolic=_softmax_symbolic,
            value=lambda z: np.asarray(special.softmax(z, axis=1)),
            meaning="probabilities of the classes",
        ),
        Link(name="log", symbolic=ca.exp, value=np.exp, meaning="expected counts"),
    )
}


def link_named(name: str) -> Link:
    """Look a link up by name.

    Raises
    ------
    ValueError
        For a name that is not in :data:`LINKS`.
    """
    checks.check("link", name, checks.one_of(LINKS))
    return LINKS[name]


_LABEL = checks.either(checks.instance((str, np.str_), "text"), checks.integer(-(2**53), 2**53), checks.FINITE)
_LABELS = checks.sequence(_LABEL, "a sequence of labels (texts, or finite numbers)")


def check_classes(classes: Any, link: str, outputs: int) -> tuple[Label, ...]:
    """The labels as plain values, once they are known to fit: two for a logistic output, one a softmax output.

    Raises
    ------
    ValueError
        For labels that are no texts or finite numbers, texts beside numbers, a label that occurs twice, or another
        number of labels than the link and the outputs have classes.
    """
    checks.check("classes", classes, _LABELS)
    labels = tuple(label.item() if isinstance(label, np.generic) else label for label in classes)
    if labels and len(labels) != (expected := _number_of_classes(link, outputs)):
        wanted = f"expected {expected or 'none'} for {outputs} output(s) with the link {link!r}"
        raise ValueError(f"classes: {wanted}, received {len(labels)}")
    if len({isinstance(label, str) for label in labels}) > 1:
        raise ValueError(f"classes must be all texts or all numbers, received {checks.shown(labels)}")
    if len(set(labels)) < len(labels):
        raise ValueError(f"classes must differ from each other, received {checks.shown(labels)}")
    return labels


def _number_of_classes(link: str, outputs: int) -> int:
    """Several logistic outputs are yes or no one by one: there is no one class of a sample."""
    if link == "softmax":
        return outputs
    return 2 if link == "logistic" and outputs == 1 else 0
