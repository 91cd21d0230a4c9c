"""The promises of pipeline files: what is right is read, and every mistake is named with its place and a way out."""

from __future__ import annotations

from pathlib import Path

import pytest

from triscale import ConfigError, Pipeline, Stage, Variant
from triscale.core.spec import load_pipeline, read_pipeline

GOOD = """\
name: ocr
slo_ms: 800
partial: allow
inputs: {image: {datatype: BYTES, shape: [1]}}
stages:
  detect:
    variants:
      - {name: small, model: "models:Detector", options: {side: 960}, accuracy: 0.93}
      - {name: tiny, model: "models:Detector", options: {side: 480}, accuracy: 0.85, fan_out: {recognise: 8.5}}
  recognise:
    after: detect
    variants:
      - {name: only, model: "models:Recogniser"}
resources: {cores: 2}
policy: {name: static, min_accuracy: 0.8}
"""


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read_pipeline(text, "p.yaml")
    return list(caught.value.problems)


def test_the_file_and_the_classes_say_the_same() -> None:
    read = read_pipeline(GOOD)
    assert read.root == "detect"
    assert read.children("detect") == ("recognise",)
    assert read.slo_s == 0.8
    assert read.stages["recognise"] == Stage(
        after="detect", variants=(Variant(name="only", model="models:Recogniser"),)
    )


def test_a_folder_stands_for_its_pipeline_yaml(tmp_path: Path) -> None:
    (tmp_path / "pipeline.yaml").write_text(GOOD)
    assert load_pipeline(tmp_path) == load_pipeline(tmp_path / "pipeline.yaml")


def test_a_missing_file_is_named_with_what_to_give_instead(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere/p.yaml: there is no such file; give a pipeline's YAML file"):
        load_pipeline(tmp_path / "nowhere" / "p.yaml")


def test_all_mistakes_are_reported_at_once_in_the_order_of_the_file() -> None:
    text = GOOD.replace("800", "-1").replace("0.93", "93").replace("after: detect", "after: detekt")
    found = problems(text.replace('model: "models:Recogniser"', 'modl: "models:Recogniser"'))
    assert [line.split(": ")[0] + ": " + line.split(": ")[1] for line in found] == [
        "p.yaml:2: slo_ms",
        "p.yaml:8: stages.detect.variants[0].accuracy",
        "p.yaml:9: stages.detect.variants[1].fan_out.recognise",
        "p.yaml:11: stages.recognise.after",
        "p.yaml:13: stages.recognise.variants[0].modl",
        "p.yaml:13: stages.recognise.variants[0].model",
    ]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("slo_ms: 800", "slo_ms: 0", "p.yaml:2: slo_ms: expected `float` > 0.0, got 0; the latency objective is in milliseconds and above 0, for example 800"),
        ("slo_ms: 800", "slo_ms: fast", "p.yaml:2: slo_ms: expected `float`, got `str`; the latency objective is in milliseconds and above 0, for example 800"),
        ("slo_ms: 800", "slo_ms: .inf", "p.yaml:2: slo_ms: must be a finite number of milliseconds, got inf"),
        ("name: ocr", "title: ocr", "p.yaml:1: title: is not a key that belongs here; the keys here are"),
        ("name: ocr\n", "", "name: is missing; letters, digits, '-', '_' and '.', beginning with a letter"),
        ("accuracy: 0.93", "accuracy: 1.3", "p.yaml:8: stages.detect.variants[0].accuracy: expected `float` <= 1.0, got 1.3; an accuracy is a share between 0 and 1, not a percentage"),
        ("accuracy: 0.93", "accuracy: .nan", "stages.detect.variants[0].accuracy: expected `float` >= 0.0, got nan"),
        ("name: tiny", "name: small", "p.yaml:9: stages.detect.variants[1].name: 'small' is already the name of another variant of this stage"),
        ("after: detect", "after: detekt", "p.yaml:11: stages.recognise.after: names the unknown stage 'detekt'; the other stages are: detect"),
        ("    after: detect\n", "", "p.yaml:5: stages: has 2 roots (detect, recognise) where a request starts at one; give the others an `after`"),
        ("  detect:\n", "  detect:\n    after: recognise\n", "p.yaml:5: stages: has no root: every stage is `after` another, so no request could start"),
        ("fan_out: {recognise: 8.5}", "fan_out: {sort: 2}", "p.yaml:9: stages.detect.variants[1].fan_out.sort: is not a child of this stage; its children are: recognise"),
        ("fan_out: {recognise: 8.5}", "fan_out: {recognise: -1}", "p.yaml:9: stages.detect.variants[1].fan_out: expected `float` >= 0.0"),
        ("models:Detector", "models.Detector", "stages.detect.variants[0].model: is written `package.module:Class`, got 'models.Detector'"),
        ("partial: allow", "partial: maybe", "p.yaml:3: partial: invalid enum value 'maybe'; `allow` answers with what is there, `deny` fails the request"),
        ("datatype: BYTES", "datatype: STRING", "p.yaml:4: inputs.image.datatype: invalid enum value 'STRING'; use a type of the Open Inference Protocol"),
        ("shape: [1]", "shape: [-2]", "p.yaml:4: inputs.image.shape[0]: expected `int` >= -1, got -2; a list of extents, -1 for any"),
        ("cores: 2", "cores: 0", "p.yaml:14: resources.cores: expected `float` > 0.0, got 0; a number above 0; leave it out to use all"),
        ("accuracy: 0.93}", "accuracy: 0.93, max_batch: 0}", "p.yaml:8: stages.detect.variants[0].max_batch: expected `int` >= 1, got 0; the largest batch, in items: 1 to 4096"),
        ("accuracy: 0.93}", "accuracy: 0.93, runtime: cuda}", "p.yaml:8: stages.detect.variants[0].runtime: invalid enum value 'cuda'; write python, onnx or emulated"),
        ("model: \"models:Recogniser\"", "runtime: emulated", "p.yaml:13: stages.recognise.variants[0].latency_ms: is missing: the emulated runtime sleeps as long as it says"),
        ("    after: detect\n", "    after: detect\n    join: some\n", "p.yaml:12: stages.recognise.join: invalid enum value 'some'; `each` takes every item by itself"),
        ("    after: detect\n", "    after: detect\n    min_replicas: 0\n", "p.yaml:12: stages.recognise.min_replicas: expected `int` >= 1, got 0"),
        ("    after: detect\n", "    after: detect\n    max_replicas: none\n", "p.yaml:12: stages.recognise.max_replicas: expected `int | null`, got `str`"),
        ("    after: detect\n", "    after: detect\n    min_replicas: 3\n    max_replicas: 2\n", "p.yaml:13: stages.recognise.max_replicas: is 2, below `min_replicas` (3); raise it, or lower the other"),
        ("slo_ms: 800", "slo_ms: 800\nmax_batch_size: 4", "got"),
        ("resources: {cores: 2}", "resources: {cores: 2}\nresources: {cores: 3}", "p.yaml:15: resources: is written twice in one mapping (first on line 14); keep one"),
        ("  detect:\n", "  1detect:\n", "stages.1detect: a stage's name has letters, digits, '-' and '_' and begins with a letter, got '1detect'"),
    ],
)  # fmt: skip
def test_each_mistake_says_where_what_which_rule_and_what_next(old: str, new: str, message: str) -> None:
    assert old in GOOD
    text = GOOD.replace(old, new, 1)
    if message == "got":
        text = text.replace("    after: detect\n", "    after: detect\n    join: all\n")
        message = "stages.recognise.join: `all` gathers what belongs to one request, and rows of a batch would mix"
    assert any(message in problem for problem in problems(text)), "\n".join(problems(text))


def test_a_cycle_is_named() -> None:
    text = (
        "name: x\nslo_ms: 5\nstages:\n"
        "  a: {variants: [{name: v, model: 'm:M'}]}\n"
        "  b: {after: [a, c], variants: [{name: v, model: 'm:M'}]}\n"
        "  c: {after: b, variants: [{name: v, model: 'm:M'}]}\n"
    )
    assert problems(text) == ["p.yaml:3: stages: has a cycle through b, c; a stage cannot come after itself"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "p.yaml: is empty; a pipeline file begins with `name:`, `slo_ms:` and `stages:`"),
        ("- 1\n", "p.yaml:1: (the whole file): is a list, not a mapping; a pipeline file begins with"),
        ("name: [", "p.yaml:1: is not valid YAML"),
        ("name: x\nslo_ms: 5\nstages: {}\n", "p.yaml:3: stages: expected `object` of length >= 1"),
        ("name: x\nslo_ms: 5\nstages: {a: {variants: []}}\n", "p.yaml:3: stages.a.variants: expected `array` of length >= 1"),
        ("a: &x [*x]\n", "refers to itself"),
        ("a: !!python/object/apply:os.system ['true']\n", "p.yaml:1: is not valid YAML"),
    ],
)  # fmt: skip
def test_what_is_no_pipeline_at_all(text: str, message: str) -> None:
    assert message in "\n".join(problems(text))


GIVE = "give a pipeline's YAML file, or the folder of its pipeline.yaml"


def test_a_file_that_is_no_text_is_named_with_what_is_expected(tmp_path: Path) -> None:
    file = tmp_path / "weights.onnx"
    file.write_bytes(b"\x08\x8c\xff")
    with pytest.raises(ConfigError) as caught:
        load_pipeline(file)
    assert str(caught.value) == f"{file}: is not a text file in UTF-8; {GIVE}"


def test_a_control_character_is_told_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "archive.zip"
    file.write_bytes(b"PK\n\x03\x04\x00")
    with pytest.raises(ConfigError) as caught:
        load_pipeline(file)
    assert str(caught.value) == f"{file}:2: holds the character U+0003, which no YAML text may; is it a text file?"


def test_a_file_that_cannot_be_read_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "pipeline.yaml"
    file.write_text(GOOD)

    def refuse(self: Path, **_: object) -> str:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(ConfigError) as caught:
        load_pipeline(file)
    assert str(caught.value) == f"{file}: cannot be read: Permission denied; {GIVE}"


def test_every_key_can_be_overridden() -> None:
    read = read_pipeline(GOOD, overrides=["slo_ms=500", "stages.detect.variants[0].accuracy=0.5", "policy.name=themis"])
    assert (read.slo_ms, read.stages["detect"].variants[0].accuracy, read.policy.name) == (500, 0.5, "themis")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("slo_ms", "--set slo_ms: is not `path.to.key=value`, for example slo_ms=500"),
        ("stages.detect.variants[7].accuracy=1", "--set stages.detect.variants[7].accuracy=1: there is no stages.detect.variants[7] in the file"),
        ("slo_ms=-5", "slo_ms: expected `float` > 0.0, got -5"),
    ],
)  # fmt: skip
def test_wrong_overrides(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_pipeline(GOOD, "p.yaml", [override])
    assert message in str(caught.value)


def test_python_code_is_held_to_the_same_rules() -> None:
    with pytest.raises(ConfigError) as caught:
        Pipeline(
            name="p",
            slo_ms=0,
            stages={"a": Stage(variants=(Variant(name="v", model="m:M", accuracy=7.0),)), "b": Stage(variants=())},
        )
    text = str(caught.value)
    assert "slo_ms: Expected `float` > 0.0" in text
    assert "stages.a: Expected `float` <= 1.0 - at `$.variants[0].accuracy`" in text
    assert "stages: has 2 roots (a, b)" in text
