"""Make a dataset of conversations: what is trained on, what is held out, and a manifest of both.

    python -m jobs.prepare conversations.jsonl --output data/support

writes ``train.jsonl``, ``heldout.jsonl`` and ``manifest.json`` into ``data/support``, whole or not at all.
Whether a conversation is held out is decided by a hash of its key, so it stays so when the dataset grows.
"""
