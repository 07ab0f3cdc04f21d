"""Many minimizers beside each other: those of several initializations, and those of several ways to train."""
