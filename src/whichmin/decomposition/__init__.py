"""A trained network taken apart: named terms that add up exactly."""
