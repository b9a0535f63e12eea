"""Reading settings: file, then environment; every problem is told at once."""

from __future__ import annotations

import copy
import os
import tomllib
from typing import TYPE_CHECKING, Final

from pydantic import ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from librarian.errors import ConfigurationError
from librarian.settings.checking import problems_of
from librarian.settings.models import Settings, StoreSettings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from pydantic_core import ErrorDetails

PREFIX: Final = "LIBRARIAN__"


class _Environment(BaseSettings, Settings):
    """Settings from keyword arguments (the file), overridden by ``LIBRARIAN__…`` variables."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True, env_ignore_empty=True
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take the environment first: what an operator types for one start beats the file."""
        return env_settings, init_settings


def load_settings(config: Path | None = None) -> Settings:
    """The settings of the site described by *config*, or of the default site when there is none.

    Raises
    ------
    ConfigurationError
        The form is wrong; ``details.problems`` lists everything, what is wrong with the substance of the rest
        included. Settings whose form is right are for ``check_settings`` to look at.
    """
    raw = {} if config is None else _read(config)
    problems = _unknown_variables()
    try:
        loaded = _merged(raw)
    except ValidationError as error:
        wrong = error.errors(include_url=False, include_input=False)
        problems += [_sentence(detail) for detail in wrong]
        problems += _problems_of_the_rest(raw, wrong)
    except SettingsError as error:
        problems.append(f"the environment: {error}; lists and tables are written as JSON there")
    if problems:
        raise _refusal(problems, config)
    return loaded


def check_settings(settings: Settings, config: Path | None = None) -> None:
    """Refuse settings that cannot work on this machine.

    Raises
    ------
    ConfigurationError
        ``details.problems`` lists every problem.
    """
    problems = problems_of(settings)
    if problems:
        raise _refusal(problems, config)


def _merged(raw: Mapping[str, object]) -> Settings:
    """What the file says, overridden by the environment; raises ValidationError."""
    loaded = _Environment(**raw)  # type: ignore[arg-type] # its own options are named _otherwise
    settings = Settings.model_validate({name: getattr(loaded, name) for name in Settings.model_fields})
    if settings.stores:
        return settings
    default = StoreSettings(name="main", root=settings.state / "store", staging=settings.state / "staging")
    return settings.model_copy(update={"stores": (default,)})


def _problems_of_the_rest(raw: Mapping[str, object], wrong: Sequence[ErrorDetails]) -> list[str]:
    """What else cannot work, once the keys that are *wrong* are left out: nobody likes to be told by halves."""
    rest = copy.deepcopy(dict(raw))
    for detail in wrong:
        _leave_out(rest, detail)
    for key in ("stores", "rules"):
        if isinstance(items := rest.get(key), list):
            rest[key] = [item for item in items if item is not None]
    try:
        merged = _merged(rest)
        # Where all that were named are wrong, the default is no store of theirs.
        return problems_of(merged if rest.get("stores", True) else merged.model_copy(update={"stores": ()}))
    except ValidationError:
        # It comes from the environment, or one mistake hid another.
        return []


def _leave_out(rest: dict[str, object], wrong: ErrorDetails) -> None:
    path = list(wrong["loc"])
    if path[0] in ("stores", "rules") and wrong["type"] != "extra_forbidden":
        # A store that is half described would be blamed for what it lacks, and a rule for a store that is left out.
        del path[2:]
        if path[0] == "stores":
            rest.pop("rules", None)
    inner: object = rest
    for part in path[:-1]:
        inner = _item(inner, part)
    match inner, path[-1]:
        case dict(), str(key):
            inner.pop(key, None)
        case list(), int(place) if place < len(inner):
            inner[place] = None


def _item(container: object, part: str | int) -> object:
    match container, part:
        case dict(), str(key):
            return container.get(key)
        case list(), int(place) if place < len(container):
            return container[place]
    return None


def _refusal(problems: list[str], config: Path | None) -> ConfigurationError:
    source = "the settings" if config is None else str(config)
    listed = "".join(f"\n  - {problem}" for problem in problems)
    return ConfigurationError(
        f"{source} cannot work:{listed}",
        remedy="Correct all of these; 'python -m librarian.admin config check' looks again without starting.",
        details={"problems": problems},
    )


def _read(config: Path) -> dict[str, object]:
    try:
        return tomllib.loads(config.read_text("utf-8"))
    except OSError as error:
        raise ConfigurationError(
            f"cannot read {config}: {error.strerror}", remedy="Name an existing file with --config or LIBRARIAN_CONFIG."
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{config} is not valid TOML: {error}", remedy="Correct that line.") from error


def _unknown_variables() -> list[str]:
    known = {name.upper() for name in Settings.model_fields}
    return [
        f"the environment variable {name} sets nothing: there is no key '{key.lower()}'"
        for name in sorted(os.environ)
        if name.startswith(PREFIX) and (key := name.removeprefix(PREFIX).split("__")[0]) not in known
    ]


def _sentence(detail: ErrorDetails) -> str:
    place = ".".join(str(part) for part in detail["loc"]) or "settings"
    if detail["type"] == "extra_forbidden":
        return f"{place}: there is no such key"
    # What our own validators say needs no word of pydantic's before it.
    return f"{place}: {detail['msg'].removeprefix('Value error, ')}"
