"""The parts of ``leave_out``: which groups, how finely each is predicted, and the predictions themselves."""
