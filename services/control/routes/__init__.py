"""Routes: they read a request, ask one domain function, and shape its answer."""
