"""Real training: the loop and why it stopped."""
