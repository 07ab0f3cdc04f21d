"""What each optimizer does to the parameters, one file a rule."""
