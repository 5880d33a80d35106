"""A conversation as token ids, the same in training, evaluation and serving.

Every part renders with the tokenizer's own chat template and adds no token besides, which is what vLLM does:
see ``render``, ``prompt_ids`` and ``encode``. ``template_hash`` names the template on a version.
"""

from common.chat.encode import Encoded, Example, encode, encode_rows
from common.chat.template import pinned_template, prompt_ids, render, template_hash
from common.chat.tokens import end_of_turn_id, pad_id

__all__ = [
    "Encoded",
    "Example",
    "encode",
    "encode_rows",
    "end_of_turn_id",
    "pad_id",
    "pinned_template",
    "prompt_ids",
    "render",
    "template_hash",
]
