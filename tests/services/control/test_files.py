import asyncio
import hashlib
import shutil
from pathlib import Path

import openai
import pytest

from tests.services.control.conftest import House, rows


async def test_the_openai_sdk_uploads_lists_reads_and_deletes_a_file(house: House, tmp_path: Path) -> None:
    sdk, content = house.sdk(), rows(3)
    (tmp_path / "rows.jsonl").write_bytes(content)
    made = await sdk.files.create(file=tmp_path / "rows.jsonl", purpose="fine-tune")
    assert (made.object, made.filename, made.bytes, made.purpose) == (
        "file", "rows.jsonl", len(content), "fine-tune",
    )  # fmt: skip
    assert made.status == "processed"
    assert (await sdk.files.retrieve(made.id)).id == made.id
    assert (await sdk.files.content(made.id)).content == content
    assert [file.id async for file in await sdk.files.list()] == [made.id]
    assert (Path(house.settings.store_url) / "files" / made.id).read_bytes() == content
    shown = await house.get(f"/v1/files/{made.id}")
    assert shown["sha256"] == hashlib.sha256(content).hexdigest()
    assert (await sdk.files.delete(made.id)).deleted
    assert [file.id async for file in await sdk.files.list()] == []
    with pytest.raises(openai.NotFoundError):
        await sdk.files.retrieve(made.id)
    assert not (Path(house.settings.store_url) / "files" / made.id).exists()


async def test_the_sdk_pages_through_files_in_either_order(house: House) -> None:
    sdk = house.sdk()
    ids = [
        (await sdk.files.create(file=(f"{number}.jsonl", rows(1)), purpose="fine-tune")).id
        for number in range(5)
    ]
    assert [file.id async for file in await sdk.files.list(limit=2)] == ids[::-1]
    assert [file.id async for file in await sdk.files.list(limit=2, order="asc")] == ids
    assert [file.id async for file in await sdk.files.list(purpose="batch")] == []


async def test_a_member_sees_their_own_files_only_and_an_owner_all(house: House) -> None:
    _, key = await house.member()
    theirs = await house.sdk(key).files.create(file=("m.jsonl", rows(1)), purpose="fine-tune")
    ours = await house.sdk().files.create(file=("o.jsonl", rows(1)), purpose="fine-tune")
    assert [file.id async for file in await house.sdk(key).files.list()] == [theirs.id]
    assert {file.id async for file in await house.sdk().files.list()} == {theirs.id, ours.id}
    for method, path in (("GET", ""), ("GET", "/content"), ("DELETE", "")):
        status, _ = await house.refusal(method, f"/v1/files/{ours.id}{path}", key=key)
        assert status == 404


@pytest.mark.parametrize(
    ("form", "param"),
    [
        ({"data": {"purpose": "fine-tune"}, "files": {"file": ("a.jsonl", b"")}}, "file"),
        ({"data": {"purpose": "assistants"}, "files": {"file": ("a.jsonl", b"{}")}}, "purpose"),
        ({"files": {"file": ("a.jsonl", b"{}")}}, "purpose"),
        ({"data": {"purpose": "fine-tune", "file": "text"}}, "file"),
    ],
)
async def test_an_upload_that_is_not_one_is_refused_by_its_field(
    house: House, form: dict, param: str
) -> None:
    status, error = await house.refusal("POST", "/v1/files", **form)
    assert (status, error["param"]) == (400, param)
    assert (await house.get("/v1/files"))["data"] == []


async def test_nobody_uploads_without_a_key(house: House) -> None:
    status, error = await house.refusal(
        "POST", "/v1/files", key="sk-wrong", data={"purpose": "fine-tune"}, files={"file": ("a", b"x")}
    )
    assert (status, error["code"]) == (401, "invalid_api_key")


async def test_a_body_above_the_limit_is_refused_before_and_while_it_is_read(house: House) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", house.settings.fastapi_port)
    writer.write(b"POST /v1/files HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (600 << 20))
    answer = await reader.readuntil(b'"code": null}}')
    assert b" 413 " in answer
    assert b"above 513 MiB" in answer
    writer.close()

    async def endless():
        for _ in range(6):
            yield b"[" * (1 << 20)

    status, error = await house.refusal("POST", "/onggi/v1/keys", content=endless())
    assert status == 413
    assert "above 4 MiB" in error["message"]


async def test_a_store_that_is_away_is_a_503_and_leaves_no_row(house: House) -> None:
    shutil.rmtree(house.settings.store_url)
    Path(house.settings.store_url).parent.joinpath("store").write_text("a file in the folder's place")
    with pytest.raises(openai.InternalServerError) as error:
        await house.sdk().files.create(file=("a.jsonl", rows(1)), purpose="fine-tune")
    assert error.value.status_code == 503
    assert error.value.response.headers["retry-after"] == "5"
    assert (await house.get("/v1/files"))["data"] == []
