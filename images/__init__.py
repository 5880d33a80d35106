"""The container images: one Dockerfile a component, and the command that builds, loads and pushes them."""
