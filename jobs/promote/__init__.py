"""``python -m jobs.promote``: decide on what people think of a candidate whether everybody gets it."""
