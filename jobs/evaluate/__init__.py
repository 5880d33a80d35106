"""Judge a registered version through the vLLM that serves it: ``python -m jobs.evaluate``."""
