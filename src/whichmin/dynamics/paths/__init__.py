"""A network followed along training: linearized where it stands, moved, linearized again."""
