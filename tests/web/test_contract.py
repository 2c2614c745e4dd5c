"""The API against its own OpenAPI document: requests that follow it and requests that do not, by schemathesis."""

from __future__ import annotations

from typing import Any

import pytest

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed")
from hypothesis import HealthCheck, Phase, given, settings  # noqa: E402
from hypothesis.errors import Unsatisfiable  # noqa: E402
from schemathesis import GenerationMode, checks  # noqa: E402
from schemathesis.core.failures import FailureGroup  # noqa: E402
from schemathesis.openapi.checks import UndefinedStatusCode  # noqa: E402

from reelkind.web.api.openapi import document  # noqa: E402

from .served import Served  # noqa: E402

pytestmark = pytest.mark.triton

CHECKS = [
    checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
]
OPERATIONS = [
    (method, path)
    for path, operations in document()["paths"].items()
    for method in operations
    if method in ("get", "post", "delete") and not path.endswith("/events")  # streams without an end
]


@pytest.fixture(scope="module")
def api(served: Served) -> Any:
    """The document as it is served."""
    return schemathesis.openapi.from_url(served.url + "api/openapi.json")


def test_an_answer_that_the_document_lacks_is_noticed(served: Served) -> None:
    silent = document()
    del silent["paths"]["/api/jobs/{job_id}"]["get"]["responses"]["404"]
    poorer = schemathesis.openapi.from_dict(silent)
    poorer.config.update(base_url=served.url)
    case = poorer["/api/jobs/{job_id}"]["get"].Case(path_parameters={"job_id": "nobody"})
    with pytest.raises(FailureGroup) as caught:
        case.call_and_validate(checks=CHECKS, timeout=60)
    assert [type(each) for each in caught.value.exceptions] == [UndefinedStatusCode]


@pytest.mark.parametrize("mode", GenerationMode)
@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_no_answer_is_undocumented_and_none_is_the_servers_fault(
    api: Any, method: str, path: str, mode: GenerationMode
) -> None:
    operation = api[path][method]

    @given(case=operation.as_strategy(mode))
    @settings(
        max_examples=25,
        deadline=None,
        derandomize=True,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def ask(case: Any) -> None:
        case.call_and_validate(checks=CHECKS, timeout=60)

    try:
        ask()
    except Unsatisfiable:
        pytest.skip("whatever is asked of this operation is well formed")
