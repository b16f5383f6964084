"""The interface of an export format; `formats.py` lists one object for each."""

from __future__ import annotations

import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from torch import Tensor

from loraloom.architectures.family import Family
from loraloom.base.loading import Base
from loraloom.base.targets import Target
from loraloom.recipe import LoraSettings
from loraloom.training.card_facts import Facts

Form = Literal["merged", "adapter"]


@dataclass(frozen=True)
class ExportSource:
    """The model or adapter to export.

    Args:
        base: the base, on the CPU in float32 and in eval mode. For a merged export, it has the merged weights
            W + s·B·A and the merged model's generation settings; `write` may change or release both, because
            nothing reads them afterwards. For an adapter export, both are the base's own and must not change.
        facts: facts for the folder's card.
        form: whether base and adapter are exported as one model, or the adapter alone.
        quantization: one of the format's `quantizations`.
        settings, tensors: settings and tensors of the adapter, as in the bank.
        available: all linears of the base.
    """

    base: Base
    facts: Facts
    form: Form
    quantization: str
    settings: LoraSettings
    tensors: Mapping[str, Tensor]
    available: tuple[Target, ...]


class Format(ABC):
    """An export format; its objects have no state.

    Class attributes:
        name: value of `--format`.
        title: usual name.
        quantizations: values of `--quantization`, the default first; each is the name of a torch dtype.
        exact: the lossless quantizations; for these the proof requires equality up to float32 rounding.
        forms: what an export can contain, the default first.
        extra: the package's extra that installs what the format needs; "" if nothing more is needed.
        writes_with: modules that `write` imports, beyond the package's own dependencies.
        runs_with: modules that the proof imports. If one is missing, the export is written without a proof.
        runtime_extra: the extra that installs the modules of `runs_with`; by default `extra`.
        runtime: full name of the module in this folder that defines
            `run(folder: Path, rows: ProofRows, base: str) -> RuntimeOutputs`; see `runtime.py`.
        library: `library_name` in the metadata of the folder's card.
        decodes: names of the `generation` settings, beyond greedy decoding, that the runtime supports; the
            proof tries these settings, and the code of `example` passes them.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    quantizations: ClassVar[tuple[str, ...]]
    exact: ClassVar[frozenset[str]] = frozenset({"float32"})
    forms: ClassVar[tuple[Form, ...]] = ("merged",)
    extra: ClassVar[str] = ""
    writes_with: ClassVar[tuple[str, ...]] = ()
    runs_with: ClassVar[tuple[str, ...]] = ()
    runtime_extra: ClassVar[str] = ""
    runtime: ClassVar[str]
    library: ClassVar[str] = "transformers"
    decodes: ClassVar[frozenset[str]] = frozenset()

    @abstractmethod
    def why_not(self, family: Family, config: Mapping[str, Any], quantization: str, form: Form) -> str:
        """Explain, before a model is loaded, why it cannot be exported; "" if it can.

        Args:
            family: family of the base.
            config: contents of its config.json.
            quantization, form: as requested.
        """

    def check_adapter(self, settings: LoraSettings, form: Form) -> None:  # noqa: B027 (most take every kind)
        """Check that an adapter can be written.

        Raises:
            ModelError: the format cannot represent the adapter.
        """

    def check_files(self, base: str) -> None:  # noqa: B027 (most need no more than transformers does)
        """Check that a base has the files that the format needs, before it is loaded.

        Args:
            base: folder or hub name.

        Raises:
            ModelError: a file is missing.
        """

    @abstractmethod
    def write(self, source: ExportSource, folder: Path) -> list[str]:
        """Write the export into an empty folder, and return notes on what users should know.

        README.md is written by the caller afterwards.

        Raises:
            OSError: a file could not be written.
            LoRALoomError: the model cannot be exported.
        """

    @abstractmethod
    def example(self, source: ExportSource) -> str:
        """Return Python code that loads the export from the current folder and prints an answer."""

    def missing(self, modules: tuple[str, ...]) -> list[str]:
        """List the modules that are not installed."""
        return [name for name in modules if importlib.util.find_spec(name) is None]
