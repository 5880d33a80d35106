"""A build is known by its content: the Dockerfile, what it copies, its arguments, and nothing else."""

from pathlib import Path

import pytest

from common.errors import UserError
from images.catalog import DEFAULT, IMAGES, Build, copied, plan, release

DOCKERFILE = """\
ARG PYTHON_IMAGE=python:3.11
FROM ${PYTHON_IMAGE} AS code
COPY list.txt \\
     package /app/
FROM scratch
COPY --from=code /app /app
"""


@pytest.fixture
def context(tmp_path: Path) -> Path:
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "module.py").write_text("x = 1\n")
    (tmp_path / "list.txt").write_text("aiohttp==3\n")
    (tmp_path / "Dockerfile").write_text(DOCKERFILE)
    return tmp_path


def build(context: Path, **arguments: str) -> Build:
    return Build("onggi-x", context / "Dockerfile", context, arguments=arguments)


def test_the_reference_names_the_content(context: Path) -> None:
    name, tag = build(context).reference.split(":")
    assert name == "onggi-x"
    assert len(tag) == 12
    assert build(context).reference == f"{name}:{tag}"


@pytest.mark.parametrize("changed", ["Dockerfile", "list.txt", "package/module.py"])
def test_a_changed_file_is_another_image(context: Path, changed: str) -> None:
    before = build(context).content
    with (context / changed).open("a") as file:
        file.write("\n# more\n")
    assert build(context).content != before


def test_a_new_name_for_a_file_is_another_image(context: Path) -> None:
    before = build(context).content
    (context / "package" / "module.py").rename(context / "package" / "other.py")
    assert build(context).content != before


def test_another_argument_is_another_image(context: Path) -> None:
    assert build(context, PYTHON_IMAGE="a").content != build(context, PYTHON_IMAGE="b").content


def test_what_is_not_copied_changes_nothing(context: Path) -> None:
    before = build(context).content
    (context / "README.md").write_text("more\n")
    (context / "package" / "__pycache__").mkdir()
    (context / "package" / "__pycache__" / "module.pyc").write_text("compiled")
    assert build(context).content == before


def test_content_is_taken_once_so_that_an_edit_during_a_build_does_not_rename_it(context: Path) -> None:
    one = build(context)
    before = one.reference
    (context / "list.txt").write_text("aiohttp==4\n")
    assert one.reference == before


def test_a_copied_file_that_is_missing_is_named(context: Path) -> None:
    (context / "list.txt").unlink()
    with pytest.raises(UserError, match=r"list\.txt is copied by a Dockerfile and is not there"):
        build(context).content  # noqa: B018 - the property is what is tried


def test_stages_are_not_sources(context: Path) -> None:
    names = [path.relative_to(context).as_posix() for path in copied(DOCKERFILE, context)]
    assert names == ["list.txt", "package/module.py"]


def test_a_parent_comes_before_its_children_and_names_them() -> None:
    builds = plan(["jobs", "vllm-cpu"], {})
    assert list(builds) == ["torch", "jobs", "vllm-cpu"]
    for child in ("jobs", "vllm-cpu"):
        assert builds[child].arguments["TORCH_IMAGE"] == builds["torch"].reference


def test_an_index_with_torch_for_cpus_is_the_cpu_variants_alone() -> None:
    builds = plan(["jobs", "jobs-cpu"], {"TORCH_INDEX": "https://example.com/cpu"})
    assert builds["jobs"].arguments["TORCH_IMAGE"] == builds["torch"].reference
    assert builds["jobs-cpu"].arguments["TORCH_IMAGE"] == builds["torch-cpu"].reference
    assert builds["torch-cpu"].target == "cpu"
    assert plan(["jobs-cpu"], {})["jobs-cpu"].target is None


def test_another_base_is_another_image_down_to_the_last_child() -> None:
    names = ["gateway", "jobs"]
    one, other = plan(names, {}), plan(names, {"PYTHON_IMAGE": "python@sha256:0"})
    assert all(one[name].content != other[name].content for name in one)


def test_arguments_reach_only_the_dockerfiles_that_know_them() -> None:
    builds = plan(["gateway", "vllm"], {"VLLM_IMAGE": "mirror/vllm:1"})
    assert "VLLM_IMAGE" not in builds["gateway"].arguments
    assert builds["vllm"].arguments["VLLM_IMAGE"] == "mirror/vllm:1"


def test_variants_share_a_name_and_differ_in_their_tag() -> None:
    assert release("vllm", "1.2") == "onggi-vllm:1.2"
    assert release("vllm-cpu", "1.2") == "onggi-vllm:1.2-cpu"
    assert release("jobs-cpu", "1.2") == "onggi-jobs:1.2-cpu"


def test_a_name_that_is_no_image_is_refused_with_the_ones_there_are() -> None:
    with pytest.raises(UserError, match="there is no image gatway: use gateway, control"):
        plan(["gatway"], {})


def test_each_component_has_its_default_image() -> None:
    assert {IMAGES[name].component for name in DEFAULT} == {
        "gateway",
        "control",
        "ui",
        "mlflow",
        "jobs",
        "vllm",
    }
