"""The evaluation's stages, in order: wait, load, compare trainer and server, score, answer, decide."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from common.errors import UserError
from common.rows import ChatRow
from common.storage import Store
from common.verdict import State
from jobs.evaluate.config import EvaluateConfig
from jobs.evaluate.gate import Finding, Rules, combine, judge_held_out, judge_regression
from jobs.evaluate.parity import compare, load_tokenizer, start_trainer
from jobs.evaluate.scores import Models, Rows, load_rows, measure
from jobs.evaluate.version import Version, fetch_adapter, fetch_rows
from jobs.evaluate.vllm_client import Vllm


@dataclass(frozen=True)
class Answer:
    """One held-out question, what was expected, and what base and adapter say."""

    key: str
    question: str
    expected: str
    base: str
    adapter: str


@dataclass(frozen=True)
class Judgement:
    """What the evaluation found; ``findings`` are the gate's rules, ``parity`` None where it was left out."""

    findings: list[Finding]
    parity: Finding | None = None
    answers: list[Answer] = field(default_factory=list)

    @property
    def state(self) -> State:
        """The verdict's state."""
        return combine([*self.findings, *([self.parity] if self.parity else [])])


@dataclass(frozen=True)
class Sets:
    """What is judged on: held-out conversations, where there are any, and the regression set."""

    held_out: Rows | None
    regression: Rows

    def spread(self, count: int) -> Rows:
        """``count`` rows from both: on what it has learned by heart, an altered adapter may agree."""
        rest = self.regression.spread(count - count // 2 if self.held_out else count)
        return self.held_out.spread(count // 2) + rest if self.held_out else rest


def judge(config: EvaluateConfig, version: Version, store: Store) -> Judgement:
    """Judge ``version`` through vLLM, or say why it was not judged.

    Raises:
        UserError: rows, base or version cannot be used; the sentence says which and why.
        Away: vLLM or the store went away meanwhile.
    """
    if not config.vllm_url:
        return Judgement([Finding("not judged", "no vLLM is configured (VLLM_BASE_URL)")])
    with tempfile.TemporaryDirectory() as folder, open_vllm(config) as vllm:
        work = Path(folder)
        sets = load_sets(config, version, work)
        if not is_ready(vllm, config, version):
            words = f"vLLM at {vllm.url} did not answer within {config.wait:g} s"
            return Judgement([Finding("not judged", words)])
        vllm.load(str(version.name))
        return judge_sets(vllm, config, version, sets, adapter_folder(config, version, store, work))


def judge_sets(
    vllm: Vllm, config: EvaluateConfig, version: Version, sets: Sets, adapter: Path | None
) -> Judgement:
    """Score both sets through vLLM; with the files of ``adapter``, compare trainer and server as well."""
    models = Models(version.base.name, str(version.name))
    rules = Rules(config.margin, config.minimum_conversations, config.resamples, config.seed)
    compared = sets.spread(config.parity_rows)
    # The trainer's forward pass takes one core while vLLM, on another or on a GPU, reads the rows.
    trained = start_trainer(version.base.path, adapter, compared.examples) if adapter else None
    held_out = judge_held_out(measure(vllm, sets.held_out, models) if sets.held_out else None, rules)
    regression = judge_regression(measure(vllm, sets.regression, models), rules)
    parity = compare(vllm, compared, models, trained) if trained else None
    answers = (
        answer(vllm, sets.held_out.rows[: config.answers], config.answer_tokens, models)
        if sets.held_out
        else []
    )
    return Judgement([held_out, regression], parity, answers)


def open_vllm(config: EvaluateConfig) -> Vllm:
    """A client of the vLLM that ``config`` names."""
    key = config.vllm_key.get_secret_value() if config.vllm_key else None
    return Vllm(config.vllm_url, key, config.parallel)


def load_sets(config: EvaluateConfig, version: Version, work: Path) -> Sets:
    """Held-out and regression rows, encoded as training encoded its own."""
    tokenizer = load_tokenizer(version.base)

    def load(address: str) -> Rows:
        path = fetch_rows(address, work)
        return load_rows(path, tokenizer, max_length=config.max_length, truncate=config.truncate)

    return Sets(None if config.data is None else load(config.data), load(config.regression))


def adapter_folder(config: EvaluateConfig, version: Version, store: Store, work: Path) -> Path | None:
    """The files to compare the server with; None when that was left out."""
    if not config.parity_rows:
        return None
    return config.adapter or fetch_adapter(version, store, work / "adapter")


def is_ready(vllm: Vllm, config: EvaluateConfig, version: Version) -> bool:
    """Wait until vLLM answers; whether it does.

    Raises:
        UserError: it serves another base.
    """
    served = vllm.wait(config.wait)
    if served is not None and version.base.name not in served:
        raise UserError(
            f"{version.name} needs base {version.base.name}, and vLLM at {vllm.url} serves "
            f"{', '.join(served)}: give --vllm-url of the server that has it"
        )
    return served is not None


def answer(vllm: Vllm, rows: Sequence[ChatRow], max_tokens: int, models: Models) -> list[Answer]:
    """Greedy answers of both models to the last question of each row."""

    def ask(pair: tuple[ChatRow, str]) -> str:
        row, model = pair
        return vllm.answer(model, row.messages[:-1], row.tools, max_tokens=max_tokens)

    said = vllm.map(ask, [(row, model) for row in rows for model in models])
    return [
        Answer(row.key, _last_question(row), str(row.messages[-1].get("content") or ""), *pair)
        for row, pair in zip(rows, zip(said[::2], said[1::2], strict=True), strict=True)
    ]


def _last_question(row: ChatRow) -> str:
    asked = [message["content"] for message in row.messages[:-1] if message["role"] == "user"]
    return str(asked[-1]) if asked else ""
