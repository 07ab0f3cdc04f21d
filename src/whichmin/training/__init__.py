"""The real thing: training a copy of the network, and what it leaves."""
