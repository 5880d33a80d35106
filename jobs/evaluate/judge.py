"""The evaluation's stages, in order: wait, load, score, compare trainer and server, answer, decide."""

import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from common.storage import Store
from common.verdict import State
from jobs.evaluate.answers import Answer, answer
from jobs.evaluate.config import EvaluateConfig
from jobs.evaluate.gate import Finding, Rules, combine, judge_held_out, judge_regression
from jobs.evaluate.mistakes import Opinions, Outcome, encode_opinions, judge_mistakes, outcomes
from jobs.evaluate.parity import compare, load_tokenizer, start_trainer
from jobs.evaluate.reference import Reference, find_reference
from jobs.evaluate.scores import Models, Rows, load_rows, score
from jobs.evaluate.version import Version, fetch_adapter, fetch_rows
from jobs.evaluate.vllm_client import Vllm


@dataclass(frozen=True)
class Judgement:
    """What the evaluation found; ``findings`` are the gate's rules, ``parity`` None where it was left out.

    ``against`` says in words what the adapter was compared with.
    """

    findings: list[Finding]
    parity: Finding | None = None
    answers: list[Answer] = field(default_factory=list)
    against: str = ""

    @property
    def state(self) -> State:
        """The verdict's state."""
        return combine([*self.findings, *([self.parity] if self.parity else [])])


@dataclass(frozen=True)
class Sets:
    """What is judged on: held-out conversations with people's opinions of them, and the regression set."""

    held_out: Rows | None
    opinions: Opinions
    regression: Rows

    def spread(self, count: int) -> Rows:
        """``count`` rows from both: on what it has learned by heart, an altered adapter may agree."""
        rest = self.regression.spread(count - count // 2 if self.held_out else count)
        return self.held_out.spread(count // 2) + rest if self.held_out else rest


def judge(config: EvaluateConfig, version: Version, store: Store) -> Judgement:
    """Judge ``version`` through vLLM, or say why it was not judged.

    Raises:
        UserError: rows, base or version cannot be used; the sentence says which and why.
        AwayError: vLLM, control or the store went away meanwhile.
    """
    if not config.vllm_url:
        return Judgement([Finding("not judged", "no vLLM is configured (VLLM_BASE_URL)")])
    with tempfile.TemporaryDirectory() as folder, open_vllm(config) as vllm:
        work = Path(folder)
        sets = load_sets(config, version, work)
        if missing := missing_base(vllm, config, version):
            return Judgement([Finding("not judged", missing)])
        reference = find_reference(config, version, store)
        for model in (reference.model, str(version.name)):
            vllm.load(model)
        adapter = adapter_folder(config, version, store, work)
        return judge_sets(vllm, config, version, reference, sets, adapter)


def judge_sets(
    vllm: Vllm,
    config: EvaluateConfig,
    version: Version,
    reference: Reference,
    sets: Sets,
    adapter: Path | None,
) -> Judgement:
    """Score both sets through vLLM; with the files of ``adapter``, compare trainer and server as well."""
    to_base = Models(version.base.name, str(version.name))
    to_served = Models(reference.model, str(version.name))
    rules = Rules(config.margin, config.minimum_conversations, config.resamples, config.seed)
    compared = sets.spread(config.parity_rows)
    # The trainer's forward pass takes one core while vLLM, on another or on a GPU, reads the rows.
    trained = start_trainer(version.base.path, adapter, compared.examples) if adapter else None
    findings, found = judge_opinions(vllm, sets, to_served, rules, reference.words)
    regression = score(vllm, sets.regression.examples, to_base)
    findings.append(judge_regression(regression.losses(sets.regression.keys), rules))
    parity = compare(vllm, compared, to_base, trained) if trained else None
    limits = {"count": config.answers, "max_tokens": config.answer_tokens}
    answers = answer(vllm, sets.held_out, found, to_served, **limits) if sets.held_out else []
    return Judgement(findings, parity, answers, reference.words)


def judge_opinions(
    vllm: Vllm, sets: Sets, models: Models, rules: Rules, against: str
) -> tuple[list[Finding], dict[int, Outcome]]:
    """What the held-out rows say, and what became of each that a person had an opinion of."""
    if sets.held_out is None:
        return [judge_held_out(None, rules, against=against)], {}
    scored = score(vllm, sets.held_out.examples, models)
    found = outcomes(vllm, sets.opinions, scored, models)
    improvement = judge_held_out(scored.losses(sets.held_out.keys), rules, against=against)
    mistakes = judge_mistakes(list(found.values()))
    return [improvement, *([mistakes] if mistakes else [])], found


def open_vllm(config: EvaluateConfig) -> Vllm:
    """A client of the vLLM that ``config`` names."""
    key = config.vllm_key.get_secret_value() if config.vllm_key else None
    return Vllm(config.vllm_url, key, config.parallel)


def load_sets(config: EvaluateConfig, version: Version, work: Path) -> Sets:
    """Held-out and regression rows, encoded as training encoded its own."""
    tokenizer = load_tokenizer(version.base)

    def load(address: str, *, leave_out: bool) -> Rows:
        return load_rows(
            fetch_rows(address, work),
            tokenizer,
            max_length=config.max_length,
            truncate=config.truncate,
            leave_out=leave_out,
        )

    held_out = load(config.data, leave_out=config.leave_out) if config.data else Rows([], [])
    opinions = encode_opinions(
        held_out.rows,
        tokenizer,
        max_length=config.max_length,
        truncate=config.truncate,
        leave_out=config.leave_out,
    )
    regression = load(config.regression, leave_out=False)
    return Sets(held_out if held_out.rows else None, opinions, regression)


def adapter_folder(config: EvaluateConfig, version: Version, store: Store, work: Path) -> Path | None:
    """The files to compare the server with; None when that was left out."""
    if not config.parity_rows:
        return None
    return config.adapter or fetch_adapter(version, store, work / "adapter")


def missing_base(vllm: Vllm, config: EvaluateConfig, version: Version) -> str:
    """Wait until vLLM has the version's base: empty, or what was there instead.

    Another base may be all that answers while the card of this one trains.
    """
    served = vllm.find(version.base.name, config.wait)
    if version.base.name in served:
        return ""
    if not served:
        return f"vLLM at {vllm.url} did not answer within {config.wait:g} s"
    others = ", ".join(served)
    return f"vLLM at {vllm.url} did not serve {version.base.name} within {config.wait:g} s, but {others}"
