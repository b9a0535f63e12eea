"""The settings of a site: a TOML file, overridden by the environment, with secrets in files of their own."""

from librarian.settings.checking import is_loopback
from librarian.settings.loading import check_settings, load_settings
from librarian.settings.models import (
    CollectionSettings,
    GlobusSettings,
    LandingSettings,
    Limits,
    RsyncSettings,
    RuleSettings,
    Settings,
    SlackSettings,
    StoreSettings,
    TlsSettings,
    default_state,
)

__all__ = [
    "CollectionSettings",
    "GlobusSettings",
    "LandingSettings",
    "Limits",
    "RsyncSettings",
    "RuleSettings",
    "Settings",
    "SlackSettings",
    "StoreSettings",
    "TlsSettings",
    "check_settings",
    "default_state",
    "is_loopback",
    "load_settings",
]
