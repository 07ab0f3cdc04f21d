"""The tangent kernel: where parameters are used, how their parts are contracted, and when to fall back."""
