"""State-space models from records, as a scikit-learn estimator: scaling, order, weight decay and starts inside.

    from ocp_nn import StateSpaceRegressor
    StateSpaceRegressor(num_states=2).fit(v, y).predict(v_new, y_init=y_new[:50])

scikit-learn is the extra ``ml``; :mod:`.regressor` is imported when ``ocp_nn.StateSpaceRegressor`` is first used.
"""
