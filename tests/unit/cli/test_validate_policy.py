"""`triscale validate` and what only serving would otherwise find out."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from triscale.cli.validate import validate
from triscale.errors import ConfigError


def test_a_policy_that_does_not_exist_is_told_with_those_that_do() -> None:
    done = CliRunner().invoke(validate, ["examples/digits", "--set", "policy.name=magic"])
    assert isinstance(done.exception, ConfigError)
    assert str(done.exception).startswith(
        "examples/digits/pipeline.yaml: policy.name: there is no policy 'magic'; the policies are: triscale, themis,"
    )


@pytest.mark.parametrize("name", ["triscale", "static", "hpa"])
def test_policies_that_exist_are_valid(name: str) -> None:
    assert CliRunner().invoke(validate, ["examples/digits", "--set", f"policy.name={name}"]).exit_code == 0


def test_one_of_a_kind_is_not_written_as_several() -> None:
    done = CliRunner().invoke(validate, ["examples/identity"])
    assert done.output.startswith("identity: 1 stage, 1 variant, SLO 100 ms: valid\n")
