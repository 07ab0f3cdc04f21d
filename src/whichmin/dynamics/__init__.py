"""Where training goes: rules of optimizers, the linearized theory, and the followed path."""
