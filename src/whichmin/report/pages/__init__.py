"""Pages: what the template of each is given."""
