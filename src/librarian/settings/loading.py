"""Reading settings: file, then environment; every problem is told at once."""

from __future__ import annotations

import os
import tomllib
from typing import TYPE_CHECKING, Final

from pydantic import ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from librarian.errors import ConfigurationError
from librarian.settings.models import Settings, StoreSettings

if TYPE_CHECKING:
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
        ``details.problems`` lists everything that is wrong with the form; see ``checking`` for the substance.
    """
    raw = {} if config is None else _read(config)
    problems = _unknown_variables()
    try:
        loaded = _Environment(**raw)  # type: ignore[arg-type] # its own options are named _otherwise
    except ValidationError as error:
        problems += [_sentence(detail) for detail in error.errors(include_url=False, include_input=False)]
    if problems:
        raise refusal(problems, config)
    settings = Settings.model_validate({name: getattr(loaded, name) for name in Settings.model_fields})
    if settings.stores:
        return settings
    default = StoreSettings(name="main", root=settings.state / "store", staging=settings.state / "staging")
    return settings.model_copy(update={"stores": (default,)})


def refusal(problems: list[str], config: Path | None) -> ConfigurationError:
    """One error that lists *problems*."""
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
    return f"{place}: {detail['msg']}"
