"""The command line: parses, calls, prints. Nothing here imports torch before there is work to do."""
