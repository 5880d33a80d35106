"""The chat path: OpenAI's completions in front of vLLM, with every completion on record."""
