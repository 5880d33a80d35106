"""The gateway's routes, one module for each thing that callers ask for."""
