"""Chat rows for tests, written for this project."""

import json
import random
from pathlib import Path
from typing import Any

THINGS = ("cabbage", "radish", "garlic", "salt", "soy paste", "pepper", "sesame")


def chat(number: int) -> dict[str, Any]:
    """One conversation; its answer's length varies with ``number``."""
    generator = random.Random(number)
    thing = generator.choice(THINGS)
    answer = " ".join(
        f"Jar {number} wants {thing} on day {generator.randint(1, 90)}." for _ in range(1 + number % 3)
    )
    return {
        "messages": [
            {"role": "user", "content": f"What goes into jar {number} with the {thing}?"},
            {"role": "assistant", "content": answer},
        ]
    }


def write(path: Path, count: int) -> Path:
    """Write ``count`` rows to ``path``."""
    path.write_text("".join(json.dumps(chat(number)) + "\n" for number in range(count)))
    return path
