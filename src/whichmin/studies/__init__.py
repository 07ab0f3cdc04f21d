"""Questions of many trainings and predictions: comparisons, seeds, experiments."""
