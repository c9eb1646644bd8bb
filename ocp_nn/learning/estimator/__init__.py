"""The scikit-learn estimators: scale, train as an optimal control problem, predict in the data's own units.

    from ocp_nn import OCPClassifier, OCPRegressor
    OCPRegressor(hidden_layer_sizes=(20,)).fit(X, y).predict(X)
    OCPClassifier(hidden_layer_sizes=(20,)).fit(X, labels).predict_proba(X)

Inputs (and the targets of squares and of Huber's loss) are standardised by what ``fit`` is given, so ``weight_decay``
is in standard units: the objective is the *sum* of the samples' losses plus rho/2 the sum of squared weights.  For
squares rho is the ratio of noise to weight variance, for a negative log likelihood the inverse of the weights'
variance, whatever the number of samples.

A sample weight w counts a sample w times, in the standardisation too, and a sample of weight zero is left out before
anything is looked at: the problem is then the one with samples repeated and removed.  Which of its local minima a solve
ends in is another matter: multiple shooting has states, and defects, for each sample and not for each of its
repetitions, and whatever draws samples at random (``early_stopping``, ``weight_decay="auto"``) draws others.

scikit-learn is the extra ``ml``; this package is imported when ``ocp_nn.OCPRegressor`` or ``ocp_nn.OCPClassifier`` is
first used.
"""

from __future__ import annotations

try:
    from .classifier import OCPClassifier
    from .regressor import OCPRegressor
except ImportError as error:
    raise ImportError(
        f"OCPRegressor and OCPClassifier need scikit-learn >= 1.6: pip install 'ocp-nn[ml]' ({error})"
    ) from error

__all__ = ["OCPClassifier", "OCPRegressor"]
