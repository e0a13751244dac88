"""Plugins are found, listed with their state, and kept from harming each other."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest

from agile3d_cli.errors import ConfigError, MissingError
from agile3d_cli.licenses import LicenseNote
from agile3d_cli.plugins import LIMIT_VARIABLE, choose_stylizer, find_stylizers
from agile3d_cli.stylizer import StylizerDescription

Install = Callable[[str, str], None]
Good = Callable[[str], str]


def test_a_good_plugin_is_listed_with_its_package_and_version(install: Install, good: Good) -> None:
    install("agile3d-good", good("good"))
    (found,) = find_stylizers()
    assert (found.name, found.package, found.version, found.state) == ("good", "agile3d-good", "1.2", "ok")
    assert choose_stylizer("good") == found


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import a_module_that_is_not_there", "ModuleNotFoundError: No module named 'a_module_that_is_not_there'"),
        ("def f(:", "SyntaxError"),
        ("raise SystemExit('bye')", "SystemExit: bye"),
        ("x = 1", "LookupError: agile3d_bad offers nothing"),
        (
            "from agile3d_cli.hookspecs import hookimpl\n@hookimpl\ndef agile3d_stylizer():\n    return []",
            "PluginValidationError: unknown hook 'agile3d_stylizer'",
        ),
        (
            "from agile3d_cli.hookspecs import hookimpl\n@hookimpl\ndef agile3d_stylizers():\n    return ['good']",
            "TypeError: agile3d_stylizers returned a str",
        ),
        (
            "from agile3d_cli.hookspecs import hookimpl\n@hookimpl\ndef agile3d_stylizers():\n    return 1 / 0",
            "ZeroDivisionError",
        ),
    ],
)
def test_a_broken_plugin_is_listed_with_its_reason_and_harms_nobody(
    install: Install, good: Good, source: str, reason: str
) -> None:
    install("agile3d-bad", source)
    install("agile3d-good", good("good"))
    bad, fine = find_stylizers()
    assert bad.state == "broken" and bad.error is not None and bad.error.startswith(reason)
    assert fine.state == "ok"
    with pytest.raises(MissingError, match=r"agile3d_bad.*agile3d-bad cannot be used"):
        choose_stylizer("agile3d_bad")


def test_two_of_one_name_are_an_error_that_names_both(install: Install, good: Good) -> None:
    install("agile3d-one", good("twin"))
    install("agile3d-two", good("twin"))
    assert [found.state for found in find_stylizers()] == ["broken", "broken"]
    with pytest.raises(MissingError, match=r"agile3d-one and by agile3d-two"):
        choose_stylizer("twin")


def test_the_variable_limits_what_is_loaded(install: Install, good: Good, monkeypatch: pytest.MonkeyPatch) -> None:
    install("agile3d-one", good("one"))
    install("agile3d-two", good("two"))
    monkeypatch.setenv(LIMIT_VARIABLE, "Agile3D_Two")
    assert [found.name for found in find_stylizers()] == ["two"]
    monkeypatch.setenv(LIMIT_VARIABLE, "")
    assert find_stylizers() == []


def test_a_missing_stylizer_names_the_choices_and_the_nearest(install: Install, good: Good) -> None:
    install("agile3d-good", good("watercolor"))
    with pytest.raises(
        MissingError, match=r"'watercolour'. Did you mean 'watercolor'\? Installed: watercolor"
    ) as error:
        choose_stylizer("watercolour")
    assert error.value.exit_code == 4


def test_a_description_is_checked_when_it_is_made() -> None:
    note = (LicenseNote("code", "MIT", "here", True),)
    with pytest.raises(ConfigError, match="lower-case"):
        StylizerDescription("Bad Name", "", LicenseNote, print, print, note)
    with pytest.raises(ConfigError, match="dataclass"):
        StylizerDescription("good", "", dict, print, print, note)
    with pytest.raises(ConfigError, match="licenses is empty"):
        StylizerDescription("good", "", LicenseNote, print, print, ())


def test_finding_plugins_imports_no_torch() -> None:
    code = "import sys, agile3d_cli.plugins as p; p.find_stylizers(); print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
