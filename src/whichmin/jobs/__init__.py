"""Work that is done once and kept: finished runs, locks, executors, and the loop that brings them together."""
