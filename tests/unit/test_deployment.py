"""What stands beside the package for those who deploy it."""

from pathlib import Path

import pytest
import yaml
from compose_spec import PyCompose

from librarian.settings import load_settings

TOP = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def compose() -> dict:
    return yaml.safe_load((TOP / "compose.yaml").read_text())


def test_the_compose_file_follows_the_compose_specification(compose):
    # Dumped anew, because the parser knows no YAML merge keys.
    parsed = PyCompose.from_yaml(yaml.safe_dump(compose))

    assert set(parsed.service_names()) == {"database", "librarian", "second-database", "second-librarian"}


def test_every_file_the_compose_file_mounts_is_in_the_project(compose):
    mounted = [
        volume.split(":")[0]
        for service in compose["services"].values()
        for volume in service.get("volumes", ())
        if volume.startswith("./")
    ]

    assert mounted
    assert [path for path in mounted if not (TOP / path).is_file()] == []


def test_the_second_site_stays_away_unless_it_is_asked_for(compose):
    profiles = {name: service.get("profiles") for name, service in compose["services"].items()}

    assert profiles == {
        "database": None,
        "librarian": None,
        "second-database": ["second"],
        "second-librarian": ["second"],
    }


def test_the_image_runs_as_nobody_special_and_checks_its_health():
    lines = (TOP / "deploy" / "Dockerfile").read_text().splitlines()

    instructions = [line.split()[0] for line in lines if line and line[0].isupper()]

    assert "HEALTHCHECK" in instructions
    assert next(line for line in lines if line.startswith("USER ")) == "USER librarian"
    assert instructions.index("USER") < instructions.index("ENTRYPOINT")


@pytest.mark.parametrize("name", ["site.toml", "second-site.toml"])
def test_the_settings_that_are_deployed_have_no_problem_of_form(name):
    settings = load_settings(TOP / "deploy" / name)

    assert settings.database_url.startswith("postgresql+asyncpg://librarian@")
