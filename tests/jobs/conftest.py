from collections.abc import Iterator

import pytest

from tests import mlflow_server


@pytest.fixture(scope="session")
def mlflow_url() -> Iterator[str]:
    with mlflow_server.running() as url:
        yield url
