"""Pictures for the documentation, taken of a real turn of the loop: `make pictures`."""
