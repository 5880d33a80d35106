"""Fine-tunes as Jobs on a real cluster: a real SmolLM2 trains in one pod and is judged from another."""

import json
import subprocess
from pathlib import Path

import openai
import pytest
import yaml

from tests.e2e.conftest import BASE, NAMESPACE, ROOT, Onggi
from tests.e2e.fine_tunes import create, ended, events, job, pods, upload
from tests.e2e.kube import until

MANIFESTS = ROOT / "k8s" / "jobs"


@pytest.fixture(scope="module")
def rows(onggi: Onggi) -> dict[str, str]:
    return upload(onggi, learned=24)


def test_a_fine_tune_trains_in_one_pod_is_judged_from_another_and_answers(
    onggi: Onggi, rows: dict[str, str]
) -> None:
    made = create(onggi, rows, "e2e-bot")
    assert (made.status, made.model) == ("queued", BASE) or made.status == "running"
    # Control is not where a fine-tune lives.
    onggi.kube.kubectl("rollout", "restart", "deployment/onggi-control")
    done = ended(onggi, made.id)
    assert (done["status"], done["error"]) == ("succeeded", None)
    assert done["fine_tuned_model"] == "e2e-bot@1"
    assert done["trained_tokens"] > 0
    story = events(onggi, made.id)
    told = [event["message"] for event in story if event["type"] == "message" and event["level"] == "info"]
    assert told[0] == "The job is queued."
    assert told[-1] == "The job is done."
    assert "Version e2e-bot@1 is registered." in told
    assert [event["data"]["step"] for event in story if event["type"] == "metrics"] == [1, 2, 3]

    version = onggi.control("GET", "/onggi/v1/versions/e2e-bot@1").json()
    assert version["state"] in ("passed", "refused")
    assert version["job_id"] == made.id
    sdk = onggi.sdk("control")
    [checkpoint] = sdk.fine_tuning.jobs.checkpoints.list(made.id).data
    assert checkpoint.fine_tuned_model_checkpoint == "e2e-bot@1"
    [figures] = until(lambda: sdk.fine_tuning.jobs.retrieve(made.id).result_files, 30, "its result file")
    lines = sdk.files.content(figures).text.splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3]
    answer = onggi.sdk().chat.completions.create(
        model="e2e-bot@1", messages=[{"role": "user", "content": "What do you sell?"}], max_tokens=8
    )
    assert answer.choices[0].message.content

    [evaluated] = pods(onggi, made.id, "evaluate")
    assert "nvidia.com/gpu" not in json.dumps(evaluated["spec"]["containers"])
    # What a TTL removes is still listed.
    onggi.kube.kubectl("delete", "job", made.id)
    assert ended(onggi, made.id)["status"] == "succeeded"
    assert len(events(onggi, made.id)) == len(story)


def test_cancelling_takes_the_pods_away(onggi: Onggi, rows: dict[str, str]) -> None:
    made = create(onggi, rows, "cancelled-bot")
    until(lambda: pods(onggi, made.id, "finetune"), 60, "its pod")
    assert onggi.sdk("control").fine_tuning.jobs.cancel(made.id, timeout=120).status == "cancelled"
    assert pods(onggi, made.id, "finetune") == []
    assert [one for one in onggi.kube.items("jobs") if one["metadata"]["name"] == made.id] == []
    assert ended(onggi, made.id)["status"] == "cancelled"


def test_a_rank_that_is_not_served_is_refused_before_a_job_is_made(
    onggi: Onggi, rows: dict[str, str]
) -> None:
    before = onggi.kube.names("jobs")
    with pytest.raises(openai.BadRequestError, match="rank 128 is above"):
        onggi.sdk("control").fine_tuning.jobs.create(
            model=BASE, suffix="e2e-bot", **rows, extra_body={"onggi": {"rank": 128}}
        )
    assert onggi.kube.names("jobs") == before


@pytest.mark.full
def test_make_finetune_uploads_starts_and_follows(onggi: Onggi, tmp_path: Path) -> None:
    rows = (ROOT / "jobs" / "samples" / "train.jsonl").read_text().splitlines()[:24]
    (tmp_path / "rows.jsonl").write_text("\n".join(rows) + "\n")
    asked = {
        "DATA": tmp_path / "rows.jsonl", "BOT": "made-bot", "MODEL": BASE, "RECIPE": "tiny",
        "URL": onggi.url("control"), "KEY": onggi.owner_key,
    }  # fmt: skip
    command = ["make", "finetune", *(f"{name}={value}" for name, value in asked.items())]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "made-bot@1 ungated: not judged, a person decides" in done.stdout, "no rows to judge on were given"


@pytest.mark.parametrize("path", sorted(MANIFESTS.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_file_of_k8s_jobs_is_applied_edited_and_applied_again(
    onggi: Onggi, path: Path, tmp_path: Path
) -> None:
    edited = tmp_path / path.name
    edited.write_text(path.read_text().replace("support-bot", "edited-bot"))
    try:
        onggi.kube.kubectl("apply", "-f", str(path))
        first = onggi.kube.get("job", path.stem)["metadata"]["uid"]
        # Replaced as its README says, or it would be refused: a Job cannot be changed.
        onggi.kube.kubectl("replace", "--force", "-f", str(edited), timeout=180)
        second = onggi.kube.get("job", path.stem)
        assert second["metadata"]["uid"] != first
        if path.stem.startswith("finetune"):
            assert second["metadata"]["labels"]["onggi.dev/bot"] == "edited-bot"
            wanted = f"ftjob-{second['metadata']['uid']}"
            found = until(lambda: job(onggi, wanted), 30, f"{wanted} in control's list")
            assert found["suffix"] == "edited-bot"
    finally:
        onggi.kube.kubectl("delete", "-f", str(path), "--ignore-not-found", timeout=180)


def test_the_namespace_of_the_manifests_is_the_releases() -> None:
    for path in MANIFESTS.glob("*.yaml"):
        for one in yaml.safe_load_all(path.read_text()):
            assert one["metadata"]["namespace"] == NAMESPACE
