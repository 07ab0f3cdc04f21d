"""Calls of torch that consist of several layers, written out as the layers that they consist of."""
