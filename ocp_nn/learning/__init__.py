"""From data to a trained network in their own units: data sets, experiments, the weight decay, scikit-learn."""
