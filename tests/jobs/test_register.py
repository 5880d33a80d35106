import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from common import adapters, models
from common.errors import UserError
from common.models import BaseModel
from common.names import VersionName
from common.registry import Registry
from common.storage import StorageUnavailable
from jobs.register import Destination, Provenance, checks, register_adapter

ROOT = Path(__file__).resolve().parents[2]
HIDDEN, WIDE, RANK = 16, 32, 4


def save(path: Path, shapes: dict[str, tuple[int, ...]], dtype: str = "float32") -> None:
    """A real safetensors file of the given shapes."""
    import numpy
    from safetensors.numpy import save_file

    random = numpy.random.default_rng(0)
    save_file({name: random.random(shape).astype(dtype) for name, shape in shapes.items()}, path)


@pytest.fixture
def base(tmp_path: Path) -> BaseModel:
    """A base with one attention and one MLP layer."""
    folder = tmp_path / "models" / "tiny"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    shapes = {"model.layers.0.self_attn.q_proj.weight": (HIDDEN, HIDDEN)}
    save(folder / "model.safetensors", shapes | {"model.layers.0.mlp.up_proj.weight": (WIDE, HIDDEN)})
    record = models.ModelRecord(
        name="tiny", revision="c0ffee", source="hub:org/tiny", sha256=models.hash_files(folder)
    )
    (folder / "onggi.json").write_text(record.model_dump_json())
    return models.resolve("tiny", folder.parent)


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """An adapter as PEFT saves it."""
    folder = tmp_path / "adapter"
    folder.mkdir()
    layer = "base_model.model.model.layers.0"
    save(
        folder / "adapter_model.safetensors",
        {
            f"{layer}.self_attn.q_proj.lora_A.weight": (RANK, HIDDEN),
            f"{layer}.self_attn.q_proj.lora_B.weight": (HIDDEN, RANK),
            f"{layer}.mlp.up_proj.lora_A.weight": (RANK, HIDDEN),
            f"{layer}.mlp.up_proj.lora_B.weight": (WIDE, RANK),
        },
    )
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": 8, "bias": "none", "use_dora": False}
    config |= {"base_model_name_or_path": "/somewhere/private/tiny", "target_modules": ["q_proj", "up_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture
def to(tmp_path: Path, mlflow_url: str) -> Destination:
    return Destination.open(str(tmp_path / "store"), mlflow_url)


@pytest.fixture
def bot(request: pytest.FixtureRequest) -> str:
    """A bot of this test's own."""
    name: str = request.node.name
    return name.removeprefix("test_").replace("_", "-")[:40].strip("-")


def edit(folder: Path, **values: Any) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_a_registered_adapter_is_complete_everywhere(
    adapter: Path, base: BaseModel, to: Destination, bot: str, tmp_path: Path
) -> None:
    provenance = Provenance(run_id="r1", dataset_digest="sha256:11", figures={"loss": 1.5})
    name = register_adapter(adapter, bot=bot, base=base, to=to, provenance=provenance)
    assert name == VersionName(bot, 1)
    registered = to.registry.get(name)
    assert registered is not None
    assert registered.files == f"file://{tmp_path}/store/adapters/{bot}/1"
    assert (registered.tags.base, registered.tags.revision, registered.tags.rank) == ("tiny", "c0ffee", RANK)
    assert (registered.tags.run_id, registered.tags.figures) == ("r1", {"loss": 1.5})
    to.store.get_folder(name.folder, tmp_path / "back")
    manifest = adapters.read_manifest((tmp_path / "back" / "manifest.json").read_bytes(), name)
    assert manifest.sha256 == registered.tags.sha256
    adapters.verify(tmp_path / "back", manifest)
    adapters.check_fit(manifest, base="tiny", revision="c0ffee", max_rank=8)
    kept = (tmp_path / "back" / "adapter_model.safetensors").read_bytes()
    assert kept == (adapter / "adapter_model.safetensors").read_bytes()


def test_no_path_of_the_training_machine_is_kept(
    adapter: Path, base: BaseModel, to: Destination, bot: str
) -> None:
    name = register_adapter(adapter, bot=bot, base=base, to=to)
    for file in ("README.md", "adapter_config.json", "manifest.json"):
        assert b"private" not in to.store.get_bytes(f"{name.folder}/{file}")


def test_the_same_adapter_of_the_same_run_is_the_same_version(
    adapter: Path, base: BaseModel, to: Destination, bot: str
) -> None:
    def register(run: str | None) -> int:
        provenance = Provenance(run_id=run)
        return register_adapter(adapter, bot=bot, base=base, to=to, provenance=provenance).number

    assert [register(run) for run in ("r1", "r1", "r2", None, None, "r2")] == [1, 1, 2, 3, 3, 2]
    edit(adapter, target_modules=["up_proj", "q_proj"])  # PEFT's order differs from process to process
    assert register("r1") == 1
    edit(adapter, lora_alpha=16)
    assert register("r1") == 4


def test_an_interrupted_upload_goes_on_with_its_number(
    adapter: Path, base: BaseModel, to: Destination, bot: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise StorageUnavailable("the store is away")

    with monkeypatch.context() as patch:
        patch.setattr("common.storage.Store.put_folder", away)
        with pytest.raises(StorageUnavailable):
            register_adapter(adapter, bot=bot, base=base, to=to)
    assert to.registry.list(bot) == []
    assert to.store.list() == []
    assert register_adapter(adapter, bot=bot, base=base, to=to).number == 1
    assert [version.name.number for version in to.registry.list(bot)] == [1]


def test_files_of_an_earlier_version_are_never_overwritten(
    adapter: Path, base: BaseModel, to: Destination, bot: str
) -> None:
    to.store.put_bytes(b"kept", f"adapters/{bot}/1/manifest.json")
    assert register_adapter(adapter, bot=bot, base=base, to=to).number == 2
    assert to.store.get_bytes(f"adapters/{bot}/1/manifest.json") == b"kept"


def test_control_away_is_a_warning_only(
    adapter: Path, base: BaseModel, to: Destination, bot: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("common.control_client.PAUSES", (0.01,))
    away = Destination.open(to.store.url, to.registry.url, "http://127.0.0.1:9", "token")
    name = register_adapter(adapter, bot=bot, base=base, to=away)
    assert [version.name for version in to.registry.list(bot)] == [name]


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"use_dora": True}, "use_dora = True: vLLM cannot serve DoRA: train without"),
        ({"bias": "lora_only"}, "bias = 'lora_only': vLLM cannot serve trained biases"),
        ({"modules_to_save": ["lm_head"]}, r"cannot serve modules trained in full \(modules_to_save\)"),
        ({"init_lora_weights": "pissa"}, "cannot serve an initialisation that changes the base"),
        ({"peft_type": "IA3"}, "peft_type is IA3, and vLLM serves LORA only"),
        ({"r": 65}, "rank 65 cannot be served: this vLLM allows 1 to 64"),
        ({"r": 0}, "rank 0 cannot be served"),
        ({"rank_pattern": {"q_proj": 128}}, "rank 128 cannot be served"),
        ({"r": "many"}, "r = 'many' is no rank"),
        ({"r": 2}, r"_proj has ranks 4 and 4, and adapter_config\.json says 2"),
    ],
)
def test_what_vllm_cannot_serve_is_refused_by_name(
    adapter: Path, base: BaseModel, values: dict[str, Any], sentence: str
) -> None:
    edit(adapter, **values)
    with pytest.raises(UserError, match=sentence):
        checks.check(adapter, base, max_rank=64)


def test_inits_that_leave_the_base_alone_and_patterns_are_fine(adapter: Path, base: BaseModel) -> None:
    edit(adapter, init_lora_weights="gaussian", use_rslora=True, rank_pattern={"up_proj": 8})
    assert checks.check(adapter, base, max_rank=8) == 8


Q = "base_model.model.model.layers.0.self_attn.q_proj"


@pytest.mark.parametrize(
    ("shapes", "sentence"),
    [
        ({f"{Q}.lora_A.weight": (4, 8), f"{Q}.lora_B.weight": (16, 4)}, "is 16 x 16 there, .* for 16 x 8"),
        ({f"{Q}.lora_A.weight": (4, 16)}, "q_proj has only lora_A"),
        ({"base_model.model.lm_head.lora_A.weight": (4, 16)}, "changes lm_head, which vLLM does not adapt"),
        ({f"{Q[:-6]}k_proj.lora_A.weight": (4, 16)}, "does not fit base tiny, which has no layer .*k_proj"),
        ({f"{Q}.lora_magnitude_vector": (16,)}, "lora_magnitude_vector is not a LoRA matrix"),
        ({"model.norm.weight": (16, 16)}, r"model\.norm\.weight is not a LoRA matrix of a linear layer"),
    ],
)
def test_an_adapter_for_another_base_is_refused(
    adapter: Path, base: BaseModel, shapes: dict[str, tuple[int, ...]], sentence: str
) -> None:
    save(adapter / "adapter_model.safetensors", shapes)
    with pytest.raises(UserError, match=sentence):
        checks.check(adapter, base, max_rank=64)


def test_odd_numbers_are_refused(adapter: Path, base: BaseModel) -> None:
    shapes = {f"{Q}.lora_A.weight": (4, 16), f"{Q}.lora_B.weight": (16, 4)}
    save(adapter / "adapter_model.safetensors", shapes, dtype="int8")
    with pytest.raises(UserError, match="is I8: save the adapter in bf16, fp16 or fp32"):
        checks.check(adapter, base, max_rank=64)


def break_config(folder: Path) -> None:
    (folder / "adapter_config.json").write_text("{")


def remove_config(folder: Path) -> None:
    (folder / "adapter_config.json").unlink()


def list_config(folder: Path) -> None:
    (folder / "adapter_config.json").write_text("[]")


def remove_weights(folder: Path) -> None:
    (folder / "adapter_model.safetensors").unlink()


def pickle_weights(folder: Path) -> None:
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")


def cut_weights(folder: Path) -> None:
    path = folder / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])


def garble_weights(folder: Path) -> None:
    (folder / "adapter_model.safetensors").write_bytes(b"\xff" * 100)


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (break_config, r"adapter_config\.json is not JSON"),
        (remove_config, "holds no PEFT adapter"),
        (list_config, "holds no object"),
        (remove_weights, r"holds no adapter_model\.safetensors"),
        (pickle_weights, "is a pickle, which can run any code, and is not read. Convert it: python -c"),
        (cut_weights, "is cut short: copy it again"),
        (garble_weights, "is not a safetensors file"),
    ],
)
def test_a_damaged_adapter_is_a_sentence(
    adapter: Path, base: BaseModel, damage: Callable[[Path], None], sentence: str
) -> None:
    damage(adapter)
    with pytest.raises(UserError, match=sentence):
        checks.check(adapter, base, max_rank=64)


def command(adapter: Path, base: BaseModel, *flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "jobs.register", "--adapter", str(adapter), *flags],
        cwd=ROOT,
        env={"MODEL_CACHE_DIR": str(base.path.parent), "STORE_URL": f"{adapter.parent}/store"},
        capture_output=True,
        text=True,
    )


def test_the_command_finds_the_adapters_base_and_prints_the_version(
    adapter: Path, base: BaseModel, mlflow_url: str, bot: str
) -> None:
    ran = command(adapter, base, "--bot", bot, "--mlflow-tracking-uri", mlflow_url)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith(f"{bot}@1 is registered, ungated: file:///")
    assert [version.name.number for version in Registry(mlflow_url).list(bot)] == [1]


def test_a_base_that_does_not_match_is_exit_2_with_a_sentence(adapter: Path, base: BaseModel) -> None:
    edit(adapter, base_model_name_or_path="org/other")
    ran = command(
        adapter, base, "--bot", "b", "--base", "tiny", "--mlflow-tracking-uri", "http://127.0.0.1:9"
    )
    assert ran.returncode == 2
    assert "was trained on org/other, not on tiny: give --base org/other" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_mlflow_away_is_exit_1_and_leaves_nothing(adapter: Path, base: BaseModel) -> None:
    ran = command(adapter, base, "--bot", "b", "--mlflow-tracking-uri", "http://127.0.0.1:9")
    assert ran.returncode == 1
    assert ran.stderr.startswith("error: MLflow does not answer at http://127.0.0.1:9")
    assert not (adapter.parent / "store").exists()


def test_no_mlflow_named_is_exit_2(adapter: Path, base: BaseModel) -> None:
    ran = command(adapter, base, "--bot", "b")
    assert (ran.returncode, ran.stderr.splitlines()[0][:35]) == (2, "error: MLFLOW_TRACKING_URI is missi")
