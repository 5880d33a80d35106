"""The long-running processes: gateway, control, ui, and what is plugged into vLLM."""
