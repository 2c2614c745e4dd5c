"""A model repository on disk to one with several versions, of which exactly one answers, whenever it is read.

    classify/config.pbtxt            ─► ../classify/generations/current/classify.pbtxt
    classify_tta/config.pbtxt        ─► ../classify/generations/current/classify_tta.pbtxt   ...
    classify/generations/current     ─► 2                  the one link that decides
    classify/generations/1/, 2/      <ensemble>.pbtxt      which version of each composing model every ensemble takes
    head_lite/config.pbtxt           version_policy: the versions that are loaded
    head_lite/1/, 2/                 files

All ensembles turn to another version in the moment the link does, so a server that is started in the middle of it, or
after it was cut short, serves one version or the other and never a mixture. A change has one number, which its
generation, the versions it brings and the ensembles it alters carry and no other change ever does: response caches
keep answers, and metrics counts, by model and version. Configurations name their ensemble's version, because
tritonserver, reloading a model, reloads all ensembles made of it by the configurations it has read before.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from google.protobuf import text_format

from reelkind.core.files import checksums
from reelkind.core.files.whole_files import place_copy, write_whole
from reelkind.serving.errors import ServingError
from reelkind.serving.models import composing_models, ensemble_configs, read_config

_CONFIG = "config.pbtxt"
_GENERATIONS, _CURRENT, _LAST = "generations", "current", "last"
_PARTIAL = "partial-"  # Triton looks at folders whose names are numbers


class VersionedRepository:
    """One repository; changes only under ``lock``.

    Args:
        folder: the repository.

    Raises:
        ServingError: if it holds no ensembles.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        names = list(ensemble_configs(folder))
        homes = [name for name in names if (folder / name / _GENERATIONS / _CURRENT).is_symlink()]
        self._generations = folder / (homes or names)[0] / _GENERATIONS

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep others from changing the repository at the same time.

        Raises:
            ServingError: if somebody does, or the repository may not be written.
        """
        try:
            self._generations.mkdir(exist_ok=True)
            lock_file = (self._generations / "lock").open("w")
        except OSError as error:
            raise ServingError(f"{self.folder} cannot be written: {error.strerror}; promotion changes it") from error
        with lock_file as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ServingError(f"another promotion is at work on {self.folder}: wait until it is done") from None
            yield

    def ensembles(self) -> dict[str, Any]:
        """Configurations by name, with the version that answers and for every step the version it takes."""
        configs = ensemble_configs(self.folder)
        for name, config in configs.items():
            if not config.version_policy.specific.versions:
                config.version_policy.specific.versions[:] = [max(self.versions(name))]
            for step in config.ensemble_scheduling.step:
                if step.model_version < 1:
                    step.model_version = max(self.versions(step.model_name))
        return configs

    def previous(self) -> dict[str, Any] | None:
        """Configurations before the last switch, or None if there was none."""
        earlier = [number for number in self._numbers() if number < self._current()]
        if not earlier:
            return None
        return self._read_generation(max(earlier))

    def generations(self) -> list[dict[str, Any]]:
        """Configurations of all switches that are remembered, one that was taken back among them."""
        return [self._read_generation(number) for number in self._numbers()]

    def config(self, model: str) -> Any:
        """Configuration of a model."""
        return read_config(self.folder / model / _CONFIG)

    def versions(self, model: str) -> list[int]:
        """Versions of a model on disk, rising.

        Raises:
            ServingError: if there is none.
        """
        found = _numbers_in(self.folder / model)
        if not found:
            raise ServingError(f"{self.folder / model} has no version folder")
        return found

    def adopt(self) -> None:
        """Write down which versions the ensembles take, so that a folder more changes nothing; tell the server then."""
        configs = self.ensembles()
        if not (self._generations / _CURRENT).is_symlink():
            first = max(max(self.versions(name)) for name in configs)
            self._write_generation(first, configs)
            for model in self.composing_models():
                self.load_only(model, [max(self.versions(model))])
            _relink(self._generations / _CURRENT, str(first))
        for name in configs:
            if (self.folder / name / _CONFIG).is_symlink():
                continue  # unlike others, if an earlier run was killed here
            _relink(
                self.folder / name / _CONFIG,
                os.path.relpath(self._generations / _CURRENT / f"{name}.pbtxt", self.folder / name),
            )

    def new_number(self) -> int:
        """The number of a change to come, which is never given again, whatever becomes of the change."""
        models = [*self.ensembles(), *self.composing_models()]
        used = [*self._numbers(), *(version for model in models for version in self.versions(model)), self._last_used()]
        number = max(used) + 1
        write_whole(self._generations / _LAST, str(number), durable=True)
        return number

    def composing_models(self) -> set[str]:
        """Names of the models that the ensembles are made of."""
        return set().union(*map(composing_models, self.ensembles().values()))

    def add_version(self, model: str, number: int, files: Mapping[str, Path | bytes]) -> None:
        """A new version that differs from the newest one in these files; it is not loaded yet.

        Args:
            model: name of a composing model.
            number: of the change that brings it.
            files: name -> where its content lies, or the content.
        """
        newest = max(self.versions(model))
        partial = self.folder / model / f"{_PARTIAL}{number}"
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(self.folder / model / str(newest), partial, ignore=lambda _, names: set(names) & set(files))
        for name, content in files.items():
            if isinstance(content, bytes):
                (partial / name).write_bytes(content)
            else:
                place_copy(content, partial / name)
            checksums.record(partial / name)
        partial.rename(partial.with_name(str(number)))

    def load_only(self, model: str, versions: Iterable[int]) -> bool:
        """Let a server load these versions of a model and no others; False if it does so already."""
        wanted, config = sorted(versions), self.config(model)
        if list(config.version_policy.specific.versions) == wanted:
            return False
        config.version_policy.specific.versions[:] = wanted
        write_whole(self.folder / model / _CONFIG, text_format.MessageToString(config), durable=True)
        return True

    def switch(self, number: int, configs: Mapping[str, Any]) -> None:
        """Make these the configurations of the ensembles, all in one moment.

        Args:
            number: of the change.
            configs: of all ensembles.
        """
        before = self.ensembles()
        for name, config in configs.items():
            if config != before[name]:
                config.version_policy.specific.versions[:] = [number]
                (self.folder / name / str(number)).mkdir(exist_ok=True)
        self._write_generation(number, configs)
        _relink(self._generations / _CURRENT, str(number))

    def switch_back(self) -> None:
        """Take the last ``switch`` back; ``tidy`` removes what it wrote, once no server looks there."""
        number = self._current()
        earlier = max(other for other in self._numbers() if other < number)
        for path in (self._generations / str(earlier)).iterdir():
            path.touch()  # tritonserver reads what is newer than what it has
        _relink(self._generations / _CURRENT, str(earlier))

    def tidy(self) -> None:
        """Forget what neither the ensembles nor the way back need; a version that failed, for one."""
        current, previous = self.ensembles(), self.previous() or {}
        kept = {self._current(), *[number for number in self._numbers() if number < self._current()][-1:]}
        for number in set(self._numbers()) - kept:
            shutil.rmtree(self._generations / str(number))
        needed = {name: set(config.version_policy.specific.versions) for name, config in current.items()}
        for config in [*current.values(), *previous.values()]:
            for step in config.ensemble_scheduling.step:
                needed.setdefault(step.model_name, set()).add(step.model_version)
        for model, versions in needed.items():
            for folder in (self.folder / model).iterdir():
                unneeded = folder.name.isdecimal() and int(folder.name) not in versions
                if unneeded or folder.name.startswith(_PARTIAL):
                    shutil.rmtree(folder)

    def _current(self) -> int:
        return int((self._generations / _CURRENT).readlink().name)

    def _last_used(self) -> int:
        """Number of the last change, also if it was taken back."""
        last = self._generations / _LAST
        return int(last.read_text(encoding="utf-8")) if last.is_file() else 0

    def _numbers(self) -> list[int]:
        return _numbers_in(self._generations)

    def _read_generation(self, number: int) -> dict[str, Any]:
        return {path.stem: read_config(path) for path in (self._generations / str(number)).glob("*.pbtxt")}

    def _write_generation(self, number: int, configs: Mapping[str, Any]) -> None:
        folder = self._generations / str(number)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for name, config in configs.items():
            write_whole(folder / f"{name}.pbtxt", text_format.MessageToString(config), durable=True)


def _numbers_in(folder: Path) -> list[int]:
    return sorted(int(entry.name) for entry in folder.iterdir() if entry.name.isdecimal() and not entry.is_symlink())


def _relink(link: Path, target: str) -> None:
    partial = link.with_name(f".{_PARTIAL}{link.name}")
    partial.unlink(missing_ok=True)
    partial.symlink_to(target)
    partial.replace(link)
