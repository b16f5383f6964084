"""What of a script is read, and that nothing of it is run."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoModelForSeq2SeqLM

from loraloom.architectures.known_models import known_model
from loraloom.errors import DataError
from loraloom.scripts.facts import Facts
from loraloom.scripts.installed import FILES, parameters
from loraloom.scripts.script import Script
from loraloom.scripts.script_report import check_script
from loraloom.scripts.script_source import is_script
from loraloom.scripts.script_values import is_read
from tests.scripts.copied import SCRIPT, checked


def rate_of(folder: Path, text: str) -> object:
    """The learning rate that is read in a script."""
    file = folder / "rate.py"
    file.write_text(text, encoding="utf-8")
    return Facts(Script.of_file(file)).setting("learning_rate")


@pytest.mark.parametrize(
    "text",
    [
        "TrainingArguments(learning_rate=3e-4)",
        "RATE = 3e-4\nTrainingArguments('out', learning_rate=RATE)",
        "RATE = 1\nRATE = 3 * 1e-4\nTrainingArguments(learning_rate=RATE)\nRATE = 2",
        "rate, epochs = 3e-4, 2\nTrainingArguments(learning_rate=rate)",
        "settings = {'learning_rate': 3e-4}\nTrainingArguments(**settings)",
        "settings = dict(learning_rate=3e-4)\nTrainingArguments('out', **settings)",
        "config = {'a': {'rate': 3e-4}}\nTrainingArguments(learning_rate=config['a']['rate'])",
        "class CFG:\n    rate = 3e-4\nTrainingArguments(learning_rate=CFG.rate)",
        "@dataclass\nclass Config:\n    rate: float = 3e-4\nc = Config()\n"
        "TrainingArguments(learning_rate=c.rate)",
        "class Config:\n    rate = 1\nc = Config(rate=3e-4)\nTrainingArguments(learning_rate=c.rate)",
        "p = ArgumentParser()\np.add_argument('-l', '--the-rate', type=float, default=3e-4)\n"
        "args = p.parse_args()\nTrainingArguments(learning_rate=args.the_rate)",
        "def main(rate=3e-4):\n    return TrainingArguments(learning_rate=rate)",
        "def main():\n    TrainingArguments(learning_rate=RATE)\nRATE = 3e-4",
        "from transformers import TrainingArguments as T\nTrainer(args=T(learning_rate=float('3e-4')))",
        "class Mine(TrainingArguments):\n    pass\nMine(learning_rate=3e-4)",
        "if (rate := 3e-4):\n    TrainingArguments(learning_rate=rate)",
    ],
)
def test_a_value_is_followed_to_where_it_is_written(text: str, tmp_path: Path) -> None:
    assert rate_of(tmp_path, text) == pytest.approx(3e-4)


@pytest.mark.parametrize(
    "text",
    [
        "TrainingArguments(learning_rate=float(os.environ['RATE']))",
        "for rate in (1e-4, 1e-3):\n    TrainingArguments(learning_rate=rate)",
        "TrainingArguments(learning_rate=rate)",
        "rate = rate_of(model)\nTrainingArguments(learning_rate=rate * 2)",
    ],
)
def test_what_only_a_run_would_tell_is_not_guessed(text: str, tmp_path: Path) -> None:
    assert not is_read(rate_of(tmp_path, text))


def notebook(*cells: str) -> str:
    """A notebook with these code cells, and text between them."""
    listed = [
        cell
        for text in cells
        for cell in (
            {"cell_type": "markdown", "metadata": {}, "source": ["# %not python"]},
            {"cell_type": "code", "metadata": {}, "outputs": [], "source": text.splitlines(keepends=True)},
        )
    ]
    return json.dumps({"cells": listed, "metadata": {}, "nbformat": 4, "nbformat_minor": 5})


def test_a_notebook_is_read_cell_by_cell_with_its_commands(tmp_path: Path) -> None:
    cells = SCRIPT.replace("learning_rate=3e-4", "learning_rate=2e-5").split("\n\n\n")
    commands = (
        "!pip install -q 'transformers==5.1.0' \\\n   peft\n%load_ext autoreload\nimport os\nos.getcwd?\n"
        "files = !ls\nif files:\n    %cd data\n"
    )
    text = notebook(commands, "%%bash\nls | wc -l\n", "%%time\n" + cells[0], *cells[1:], "print 'old'")
    report = checked(tmp_path, text, "train.ipynb")
    found = {each.check: each for each in report.findings if each.level == "warning"}
    assert set(found) == {"learning-rate", "syntax"}
    assert found["syntax"].where == "train.ipynb, code cell 7:1"
    assert found["learning-rate"].where == "train.ipynb, code cell 6:6"
    assert cells[3].splitlines()[5].strip() == "learning_rate=2e-5,"
    assert Script.of_file(tmp_path / "train.ipynb").source.pinned == {"transformers": "5.1.0"}


def test_an_older_notebook_and_a_version_that_it_installs(tmp_path: Path) -> None:
    text = SCRIPT.replace("    eval_strategy=", "    evaluation_strategy=")
    cells = [
        {"cell_type": "code", "input": ["%pip install transformers==4.30.2"]},
        {"cell_type": "code", "input": text},
    ]
    report = checked(tmp_path, json.dumps({"worksheets": [{"cells": cells}], "nbformat": 3}), "old.ipynb")
    (removed,) = (each for each in report.findings if each.check == "removed-names")
    assert removed.level == "note"
    assert "the script installs transformers 4.30.2" in removed.message
    assert not report.has_errors


BAD = {
    "no.py": (None, "cannot be read: No such file"),
    "empty.py": ("", "nothing to check"),
    "other.py": ("print(1)\n", "nothing to check"),
    "old.py": ("print 'x'\n", "is not Python"),
    "torn.py": ("model = (\n", "is not Python"),
    "deep.py": (f"x = {'(' * 300}1{')' * 300}\n", "is not Python"),
    "null.py": ("x = 1\0\n", "is not Python"),
    "text.ipynb": ("hello", "is not a Jupyter notebook"),
    "list.ipynb": ("[1, 2]", "is not a Jupyter notebook"),
    "kinds.ipynb": ('{"cells": [1]}', "is not a Jupyter notebook"),
    "nested.ipynb": ("[" * 200_000, "is not a Jupyter notebook"),
    "without.ipynb": ('{"cells": []}', "nothing to check"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_file_that_is_no_script_is_refused_with_its_name(name: str, tmp_path: Path) -> None:
    text, words = BAD[name]
    assert is_script(name)
    if text is not None:
        (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=words) as caught:
        check_script(tmp_path / name)
    assert caught.value.problems[0].where.startswith(name)


def test_other_bytes_than_utf_8_are_refused(tmp_path: Path) -> None:
    (tmp_path / "gbk.py").write_bytes("# 学习率\nx = 1".encode("gbk"))
    with pytest.raises(DataError, match="is not UTF-8 text"):
        check_script(tmp_path / "gbk.py")


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_whatever_a_script_lacks_it_is_read(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Lines and words that are missing or twice end in a report or a refusal, never in another error."""
    lines = SCRIPT.splitlines()
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(lines) - 1))
        other = data.draw(st.sampled_from(["", "x", "model", "(", "[]", "**tokens", "None", "-1", "labels"]))
        words = lines[at].split(" ")
        words[data.draw(st.integers(0, len(words) - 1))] = other
        lines[at] = data.draw(st.sampled_from([" ".join(words), "", f"{lines[at]}; {lines[at].strip()}"]))
    with contextlib.suppress(DataError):
        checked(tmp_path_factory.mktemp("fuzz"), "\n".join(lines))


def test_nothing_of_a_script_is_run(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    (tmp_path / "peft.py").write_text(f"open({str(trace)!r}, 'w')", encoding="utf-8")
    checked(tmp_path, f"open({str(trace)!r}, 'w')\n__import__('peft')\n{SCRIPT}")
    assert not trace.exists()


FAMILIES = {
    "t5": "t5-small",
    "mt5": "mt0-large",
    "umt5": "umt5-base",
    "bart": "bart-base",
    "mbart": "mbart-large-50",
} | {
    "m2m100": "nllb-200-3.3B",
    "marian": "opus-mt-de-en",
    "pegasus": "pegasus-xsum",
    "t5gemma": "t5gemma-2b",
    "flan": "flan-t5-xl",
}


@pytest.mark.parametrize("kind", FAMILIES)
def test_the_linears_that_are_known_of_a_model_are_its_own(kind: str, tiny: Callable[[str], Path]) -> None:
    import torch

    by_name, by_folder = known_model(f"owner/{FAMILIES[kind]}"), known_model(str(tiny(kind)))
    assert by_name
    assert by_folder
    model = AutoModelForSeq2SeqLM.from_pretrained(tiny(kind))
    linears = {
        name.rpartition(".")[2] for name, each in model.named_modules() if isinstance(each, torch.nn.Linear)
    }
    assert (
        by_name.linears == by_folder.linears == linears - {"lm_head", "out_proj" if kind == "t5gemma" else ""}
    )


def test_the_arguments_of_installed_classes_are_read_from_their_files() -> None:
    import dataclasses

    from peft import LoraConfig
    from transformers import Seq2SeqTrainingArguments

    for kind in (LoraConfig, Seq2SeqTrainingArguments):
        fields = {field.name for field in dataclasses.fields(kind) if field.init}
        assert fields <= parameters(kind.__name__)
    assert all(parameters(name) for name in FILES)
