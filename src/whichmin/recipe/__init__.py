"""What trains a network: an optimizer, its batches and its scheduler."""
