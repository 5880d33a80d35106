"""Dataset rows: JSON Lines in OpenAI's fine-tuning form, checked line by line.

A file holds rows of one kind:

- chat: ``{"messages": [{"role", "content", "weight"?}], "tools"?: [...]}``; every assistant message is
  learned unless its weight is 0,
- preference: ``{"input": {"messages"}, "preferred_output": [message], "non_preferred_output": [message]}``,
- label: ``{"messages": [...], "label": true}``.

Each may carry ``key`` (the conversation it came from, which decides whether it is held out) and
``source_id``. A chat row may carry ``onggi``, what a person thought of its last answer:
``{"kind": "accepted"}`` or ``{"kind": "correction", "rejected": "the answer that it replaces"}``; it is
judged by, never learned.
"""

from common.rows.errors import DatasetError, Problem
from common.rows.messages import Message
from common.rows.read import Dataset, one_kind, parse_line, read_rows, validate
from common.rows.schema import ChatRow, Kind, LabelRow, Opinion, PreferenceRow, Row, parse_row
from common.rows.split import HELD_OUT_FRACTION, conversation_key, held_out

__all__ = [
    "HELD_OUT_FRACTION",
    "ChatRow",
    "Dataset",
    "DatasetError",
    "Kind",
    "LabelRow",
    "Message",
    "Opinion",
    "PreferenceRow",
    "Problem",
    "Row",
    "conversation_key",
    "held_out",
    "one_kind",
    "parse_line",
    "parse_row",
    "read_rows",
    "validate",
]
