"""Prompts of packs and of people's own files, and the manifest of a pack."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from latbench.model.errors import UserError
from latbench.model.request import Message, Prompt
from latbench.scenario import manifest, tokens
from latbench.scenario.prompts import PromptSet, load_prompts, read_pack
from latbench.scenario.schema import PromptSettings

CODE = "def add(a, b):\n    return a + b\n"
PACK = """\
- id: gen-py-add
  task: generation
  language: python
  tags: [maths]
  complexity: low
  context_files: [context/a/add.py]
  prompt: |
    Write sub in the same way.
- id: com-py-add
  task: completion
  language: python
  max_tokens: 64
  prefix: |2
        def mul(a, b):
            return
  suffix: |2

        def div(a, b): ...
- id: rev-py-add
  task: review
  language: python
  tier: 2
  system: Be terse.
  prompt: Review it.
  expect: {finding: {words: [overflow]}}
- id: sea-py-talk
  task: search
  language: python
  context_files: [context/a/add.py]
  messages:
    - {role: system, content: Be exact.}
    - {role: user, content: Where is the sum made?}
    - {role: assistant, content: Where?}
    - {role: user, content: In which function}
"""
RENDERED = "File: context/a/add.py\n\n```python\n" + CODE + "```\n\n"


@pytest.fixture(autouse=True)
def _in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def pack() -> Path:
    folder = Path.cwd() / "scenarios" / "small"
    write(folder / "prompts" / "all.yaml", PACK)
    write(folder / "context" / "a" / "add.py", CODE)
    assert manifest.main([str(folder)]) == 0
    return folder


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def of_pack(**settings: Any) -> PromptSet:
    return load_prompts(PromptSettings.model_validate({"pack": "small"} | settings), Path.cwd(), "s.yaml:4: prompts")


def own(path: str, **settings: Any) -> PromptSet:
    return load_prompts(PromptSettings.model_validate({"path": path} | settings), Path.cwd(), "s.yaml:4: prompts")


def only(path: str) -> Prompt:
    (prompt,) = own(path).prompts
    return prompt


# --- packs ---


@pytest.mark.usefixtures("pack")
def test_a_pack_is_rendered_and_sorted_by_id() -> None:
    loaded = of_pack()
    assert (loaded.name, loaded.version) == ("small", "1.0.0")
    assert loaded.weights == {"completion": 0.25, "generation": 0.25, "review": 0.25, "search": 0.25}
    completion, generation, review, search = loaded.prompts
    assert generation.messages == (Message("user", RENDERED + "Write sub in the same way.\n"),)
    assert (generation.tags, generation.complexity, generation.tokens) == (
        ("maths",),
        "low",
        tokens.count(generation.messages[0].content),
    )
    assert completion.max_tokens == 64
    (message,) = completion.messages
    assert message.content.startswith("Fill in the code at <CURSOR>. Answer with the missing code only")
    code = "    def mul(a, b):\n        return\n<CURSOR>\n    def div(a, b): ...\n"
    assert message.content.endswith(f"```python\n{code}```")
    assert review.messages == (Message("system", "Be terse."), Message("user", "Review it."))
    assert (review.tier, review.expect) == (2, {"finding": {"words": ["overflow"]}})
    assert [turn.role for turn in search.messages] == ["system", "user", "assistant", "user"]
    assert search.messages[1].content == RENDERED + "Where is the sum made?"
    assert all(prompt.extra == {} for prompt in loaded.prompts)


@pytest.mark.usefixtures("pack")
def test_weights_are_shares_and_a_weight_of_nothing_leaves_a_task_out() -> None:
    assert of_pack(tasks={"search": 3, "review": 1, "completion": 0}).weights == {"review": 0.25, "search": 0.75}
    with pytest.raises(UserError, match=r"^s.yaml:4: prompts.tasks.debug: no prompt has this task; remove it"):
        of_pack(tasks={"debug": 1})


def test_a_pack_is_found_beside_the_scenario_too(pack: Path) -> None:
    elsewhere = Path.cwd() / "elsewhere"
    elsewhere.mkdir()
    pack.parent.rename(elsewhere / "mine")
    settings = PromptSettings(pack="small")
    assert len(load_prompts(settings, elsewhere / "mine").prompts) == 4
    with pytest.raises(UserError, match=r'^prompts.pack: no pack "small"; '):
        load_prompts(settings, elsewhere)
    assert own("elsewhere/mine/small").name == "small"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("Write sub", "Write div", "changed: gen-py-add; write it again with `python -m latbench.scenario.manifest"),
        ("id: gen-py-add", "id: gen-py-sub", "not in the manifest: gen-py-sub;"),
        (PACK[PACK.index("- id: com") :], "", "in the manifest only: com-py-add, rev-py-add, sea-py-talk;"),
    ],
)
def test_a_pack_that_is_not_what_its_manifest_says(pack: Path, old: str, new: str, message: str) -> None:
    write(pack / "prompts" / "all.yaml", PACK.replace(old, new))
    with pytest.raises(UserError) as caught:
        of_pack()
    assert message in str(caught.value)
    assert str(caught.value).startswith("scenarios/small/manifest.yaml: the pack is not what its manifest says; ")


def test_a_changed_context_file_changes_the_prompts(pack: Path) -> None:
    write(pack / "context" / "a" / "add.py", CODE + "# later\n")
    with pytest.raises(UserError, match="changed: gen-py-add, sea-py-talk;"):
        of_pack()


def test_more_than_three_are_not_listed(pack: Path) -> None:
    write(pack / "manifest.yaml", "name: small\nprompts: {}\n")
    with pytest.raises(UserError, match="not in the manifest: com-py-add, gen-py-add, rev-py-add and 1 more;"):
        of_pack()


@pytest.mark.parametrize("text", ["- a\n", "name: a\n", "prompts: [a]\n", "prompts: {a: {sha256: 1, tokens: 2}}\n"])
def test_a_manifest_needs_its_list(pack: Path, text: str) -> None:
    write(pack / "manifest.yaml", text)
    with pytest.raises(UserError, match=r"scenarios/small/manifest.yaml:1.*: must map each id to \{sha256, tokens\}"):
        of_pack()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("tags: [maths]", "tagz: [maths]", 'all.yaml:1: tagz: unknown key; did you mean "tags"?'),
        ("  task: review\n", "", "all.yaml:19: task: missing; add it"),
        ("task: review", "task: reviews", 'all.yaml:19: task: no task "reviews"; did you mean "review"?'),
        ("id: rev-py-add", "id: gen-py-add", 'id: "gen-py-add" is taken, see scenarios/small/prompts/all.yaml:1;'),
        ("tier: 2", "tier: two", "all.yaml:19: tier: not a size"),
        ("tier: 2", "tier: 0", "all.yaml:19: tier: must be at least 1"),
        (
            "a/add.py]\n  prompt",
            "a/ad.py]\n  prompt",
            "all.yaml:1: context_files: no such file: context/a/ad.py (relative",
        ),
        (
            "context/a/add.py",
            "../../../s.py",
            "context_files: ../../../s.py is outside of scenarios/small; copy it there",
        ),
        ("context/a/add.py", "/etc/passwd", "context_files: /etc/passwd is outside of scenarios/small"),
        ("  prompt: Review it.\n", "", "all.yaml:19: prompt: missing; give prompt, messages, or prefix and suffix"),
        ("Review it.", "5", "all.yaml:19: prompt: must be text; put it in quotes"),
        ("[maths]", "[1]", "all.yaml:1: tags: must be a list of texts"),
        ("{role: assistant,", "{role: robot,", "messages[2]: needs content that is text, and a role: system, "),
    ],
)
def test_mistakes_in_a_pack(pack: Path, old: str, new: str, message: str) -> None:
    assert old in PACK
    write(pack / "prompts" / "all.yaml", PACK.replace(old, new))
    with pytest.raises(UserError) as caught:
        read_pack(pack)
    assert message in str(caught.value)


def test_a_link_does_not_lead_outside(pack: Path) -> None:
    secret = write(Path.cwd() / "secret.py", "x = 1\n")
    (pack / "context" / "a" / "add.py").unlink()
    os.symlink(secret, pack / "context" / "a" / "add.py")
    with pytest.raises(UserError, match=r"context/a/add.py is outside of scenarios/small"):
        read_pack(pack)


def test_a_pack_without_prompts(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^empty: no prompts/\*.yaml in it$"):
        read_pack(tmp_path / "empty")


# --- the manifest ---


def test_the_manifest_counts_and_keeps_what_people_wrote(pack: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = yaml.safe_load((pack / "manifest.yaml").read_text())
    assert list(made)[:6] == ["name", "version", "licence", "last_review", "changelog", "archive"]
    assert made["counts"] == {
        "prompts": 4,
        "task": {"completion": 1, "generation": 1, "review": 1, "search": 1},
        "language": {"python": 4},
        "tier": {"2": 1},
        "input_length": {"0-500": 4},
    }
    assert manifest.main([str(pack), "--check"]) == 0
    made |= {"version": "3", "changelog": [{"version": "3", "changes": "mine"}], "last_review": "2020-01-01"}
    write(pack / "manifest.yaml", yaml.safe_dump(made))
    write(pack / "context" / "a" / "new.py", "x = 1\n")
    assert manifest.main([str(pack), "--check"]) == 1
    assert "out of date; run `python -m" in capsys.readouterr().err
    assert manifest.main([str(pack)]) == 0
    assert "scenarios/small/manifest.yaml: 4 prompts, 2 context files" in capsys.readouterr().out
    again = yaml.safe_load((pack / "manifest.yaml").read_text())
    assert {key: again[key] for key in ("version", "changelog", "last_review")} == {
        key: made[key] for key in ("version", "changelog", "last_review")
    }
    assert list(again["context_files"]) == ["context/a/add.py", "context/a/new.py"]


def test_mistakes_are_told_and_not_thrown(pack: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(pack / "manifest.yaml", "- a\n")
    assert manifest.main([str(pack)]) == 2
    assert capsys.readouterr().err == (
        "error: scenarios/small/manifest.yaml: must be a mapping; remove the file to begin anew\n"
    )


@pytest.mark.parametrize(
    ("length", "name"),
    [(0, "0-500"), (499, "0-500"), (500, "500-2k"), (7999, "2k-8k"), (16_000, "8k-16k"), (16_001, "over 16k")],
)
def test_bins(length: int, name: str) -> None:
    assert manifest.length_bin(length) == name


# --- files of one's own ---


def test_test_cases_in_the_common_shape_load_as_they_are() -> None:
    write(Path("cases/src/models.py"), CODE)
    case = {
        "id": "TC-042",
        "category": "generation",
        "subcategory": "data_transformation",
        "prompt": "Write it.",
        "context_files": ["src/models.py"],
        "evaluation_type": "criteria",
        "criteria": ["does not mutate"],
        "reference_output": None,
        "tags": ["nullability"],
        "complexity": "medium",
    }
    write(Path("cases/all.json"), json.dumps([case, {"task_type": "refactor", "prompt": "Again."}], indent=2))
    first, second = own("cases").prompts
    assert (first.id, first.task, first.tags, first.complexity) == ("TC-042", "generation", ("nullability",), "medium")
    assert first.messages[0].content.startswith("File: src/models.py\n\n```python\n")
    assert first.extra == {
        "category": "generation",
        "subcategory": "data_transformation",
        "evaluation_type": "criteria",
        "criteria": ["does not mutate"],
        "reference_output": None,
    }
    assert first.tokens == tokens.count(first.messages[0].content)
    assert (second.id, second.task, second.language) == ("all-20", "refactor", "unknown")


@pytest.mark.parametrize(
    ("category", "task", "tags"),
    [
        ("code_generation", "generation", ()),
        ("Code Review", "review", ()),
        ("bug-fix", "debug", ()),
        ("debugging", "debug", ()),
        ("retrieval", "search", ()),
        ("documentation", "generation", ("documentation",)),
        (None, "generation", ()),
    ],
)
def test_categories_become_tasks_or_tags(category: str | None, task: str, tags: tuple[str, ...]) -> None:
    write(Path("a.jsonl"), json.dumps({"category": category, "input": "x"}) + "\n")
    assert (only("a.jsonl").task, only("a.jsonl").tags) == (task, tags)


@pytest.mark.parametrize(
    ("data", "text", "extra"),
    [
        ({"input": "x"}, "x", {}),
        ({"question": "x", "answer": "y"}, "x", {"answer": "y"}),
        ({"text": "x"}, "x", {}),
        ({"instruction": "do", "input": "x"}, "do\n\nx", {}),
        ({"instruction": "do", "input": ""}, "do", {"input": ""}),
        ({"prompt": "x", "input": "y"}, "x", {"input": "y"}),
        ({"messages": [{"role": "user", "content": "x"}]}, "x", {}),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}]}]}, "x", {}),
    ],
)
def test_synonyms_of_prompt(data: dict[str, Any], text: str, extra: dict[str, Any]) -> None:
    write(Path("a.jsonl"), json.dumps(data))
    assert only("a.jsonl").messages == (Message("user", text),)
    assert only("a.jsonl").extra == extra


def test_every_kind_of_file() -> None:
    write(Path("mine/a.jsonl"), '{"prompt": "1"}\n\n{"prompt": "2", "id": 7}\r\n')
    write(Path("mine/b.json"), '\n[\n {"prompt": "3"},\n {"prompt": "4"}]\n')
    write(Path("mine/c.json"), '\n{"prompt": "5"}\n')
    write(Path("mine/d.yaml"), "- prompt: '6'\n# between\n- prompt: '7'\n")
    write(Path("mine/e.yml"), "prompt: '8'\n")
    write(Path("mine/f.md"), "9 ````\n")
    write(Path("mine/g.txt"), "10")
    write(Path("mine/h.csv"), "not, read")
    loaded = own("mine")
    assert {prompt.id: prompt.messages[0].content for prompt in loaded.prompts} == {
        "7": "2",
        "a-1": "1",
        "b-3": "3",
        "b-4": "4",
        "c-2": "5",
        "d-1": "6",
        "d-3": "7",
        "e-1": "8",
        "f": "9 ````\n",
        "g": "10",
    }
    assert [prompt.id for prompt in loaded.prompts] == sorted(prompt.id for prompt in loaded.prompts)
    assert (loaded.name, loaded.weights) == ("mine", {"generation": 1.0})


def test_the_hash_of_a_set_is_of_its_content() -> None:
    first = own(str(write(Path("a.jsonl"), '{"prompt": "1"}\n').name)).sha256
    assert own("a.jsonl").sha256 == first
    write(Path("a.jsonl"), '{"prompt": "2"}\n')
    assert own("a.jsonl").sha256 != first


def test_a_fence_is_longer_than_what_it_holds() -> None:
    write(Path("notes.md"), "````\ninside\n````")
    write(Path("a.jsonl"), '{"prompt": "x", "context_files": "notes.md"}')
    assert only("a.jsonl").messages[0].content == "File: notes.md\n\n`````markdown\n````\ninside\n````\n`````\n\nx"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.jsonl", '{"prompt": "1"}\n{"prompt": \n', "a.jsonl:2: not JSON: "),
        ("a.jsonl", '{"prompt": "1", "x": NaN}\n', "a.jsonl:1: not JSON: NaN is not a number"),
        ("a.jsonl", '{"prompt": "1"}\n5\n', "a.jsonl:2: a prompt must be a mapping"),
        ("a.jsonl", "[" * 200_000, "a.jsonl:1: not JSON: "),
        ("a.json", '[\n{"prompt": "1"},\n\n[]]', "a.json:4: a prompt must be a mapping"),
        ("a.json", '[\n{"prompt": "1"},\n}]', "a.json:3: not JSON: "),
        ("a.json", "[]", "s.yaml:4: prompts.path: a.json holds no prompt"),
        ("a.yaml", "- prompt: a\n- b\n", "a.yaml:2: a prompt must be a mapping"),
        ("a.yaml", "- prompt: a\n- prompt: 5\n", "a.yaml:2: prompt: must be text; put it in quotes"),
        ("a.yaml", "", "a.yaml: the file is empty"),
        ("a.jsonl", '{"messages": []}', "a.jsonl:1: messages: must be a list of {role, content}"),
        ("a.jsonl", '{"messages": ["x"]}', "a.jsonl:1: messages[0]: needs content"),
        (
            "a.jsonl",
            '{"messages": [{"role": "user", "content": [{"image": 1}]}]}',
            "a.jsonl:1: messages[0]: needs content",
        ),
        ("a.jsonl", '{"prompt": "\\ud800"}', "a.jsonl:1: half of a surrogate pair"),
        ("a.jsonl", '{"prompt": "x", "id": true}', "a.jsonl:1: id: must be text"),
        ("a.jsonl", '{"prompt": "x", "context_files": ["../x"]}', "a.jsonl:1: context_files: ../x is outside of ."),
        ("a.txt", " \n", "a.txt:1: prompt: missing"),
        ("a.csv", "x", "a.csv: not a kind of file that holds prompts; there are *.jsonl,"),
        ("d/a.csv", "x", "s.yaml:4: prompts.path: d holds none of *.jsonl, "),
    ],
)
def test_mistakes_in_files_of_ones_own(name: str, text: str, message: str) -> None:
    write(Path(name), text)
    with pytest.raises(UserError) as caught:
        own(name.split("/")[0])
    assert str(caught.value).startswith(message)


def test_a_path_that_is_not_there() -> None:
    with pytest.raises(
        UserError,
        match=r"^s.yaml:4: prompts.path: no such file or folder: none \(paths are relative to the scenario\)$",
    ):
        own("none")
