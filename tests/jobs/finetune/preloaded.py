"""What the fork server imports before it forks."""

import peft  # noqa: F401
import torch  # noqa: F401
import transformers.models.llama.modeling_llama  # noqa: F401
