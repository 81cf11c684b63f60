"""Whether a service keeps what its OpenAPI promises."""

from typing import Any

from hypothesis import HealthCheck, Phase, given, settings


def check_openapi(url: str) -> None:
    """Every operation, with made-up requests that fit its schema, and some that do not."""
    import schemathesis.checks  # takes seconds; registers the checks

    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    for operation in schema.get_all_operations():
        _check(operation.ok())


def _check(operation: Any) -> None:
    from schemathesis.specs.openapi.checks import positive_data_acceptance

    @settings(
        max_examples=20,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def check(case: Any) -> None:
        # A text that is blank is valid by its schema: what JSON Schema cannot say is left out.
        case.call_and_validate(timeout=10, excluded_checks=[positive_data_acceptance])

    given(case=operation.as_strategy())(check)()
