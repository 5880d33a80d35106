"""What the chart runs, built without any registry: stand-ins for upstream images, and our own upon them."""
