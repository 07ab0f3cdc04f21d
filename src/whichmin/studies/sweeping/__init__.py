"""What a sweep is made of: the grid, its cells, and the runs of a cell."""
