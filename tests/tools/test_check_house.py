"""Each rule of the house: a tree that keeps them all, and one planted breach at a time."""

import subprocess
import sys
from pathlib import Path

import pytest

CHECK = Path(__file__).parents[2] / "tools" / "check_house.py"
BOTH_COMMANDS = "Run `make demo` and `make test`.\n"
UNFINISHED = "TO" + "DO"


def run(root: Path) -> tuple[int, list[str]]:
    """The exit code and the lines printed for the project in `root`."""
    done = subprocess.run([sys.executable, str(CHECK), str(root)], capture_output=True, text=True, check=False)
    assert not done.stderr
    return done.returncode, done.stdout.splitlines()


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A small project without a fault."""
    good = {
        "README.md": BOTH_COMMANDS + "See [the page](docs/page.md#part-one) and [elsewhere](https://example.org).\n",
        "README.zh-CN.md": BOTH_COMMANDS,
        "docs/page.md": "# Page\n\n## Part one\n\n```\n[no link](in/code)\n```\n",
        "src/nacre/base/plugins.py": "def load(name):\n    return import_module(name)\n",
        "src/nacre/cli/verb.py": "def verb():\n    import torch\n",
        "src/nacre/one.py": "from nacre import two\n\nX = 1  # type: ignore[misc]  # the library ships no types\n",
        "src/nacre/two.py": '"""Two."""\n\n\ndef add(self, a, b, c, d, e, f, g, h):\n    return a\n',
        "tests/test_it.py": "def test_it():\n    import os\n",
    }
    for name, text in good.items():
        put(tmp_path, name, text)
    return tmp_path


def put(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def test_a_good_house_is_in_order(house: Path) -> None:
    assert run(house) == (0, ["the house is in order"])


LONG_DOCSTRING = '"""One.\n' + "word\n" * 60 + '"""'
BREACHES = {
    "a long file": ("src/nacre/x.py", "A = 1\n" * 401, ":401: 401 lines"),
    "a long function": ("tools/x.py", "def f():\n" + "    a = 1\n" * 50, ":1: f has 51 lines of code"),
    "many parameters": (
        "benchmarks/x.py",
        "def f(a, b, c, d, e, *, g, h, i, j):\n    pass\n",
        ":1: f has 9 parameters",
    ),
    "two modules of one name": ("tests/train/test_it.py", "", ":1: tests/test_it.py has the same name"),
    "global": ("src/nacre/x.py", "def f():\n    global A\n    A = 1\n", ":2: global A"),
    "a bare except": ("src/nacre/x.py", "try:\n    pass\nexcept:\n    pass\n", ":3: catches everything"),
    "except Exception": ("src/nacre/x.py", "try:\n    pass\nexcept Exception:\n    pass\n", ":3: catches everything"),
    "Exception among others": (
        "src/nacre/x.py",
        "try:\n    pass\nexcept (OSError, Exception) as e:\n    pass\n",
        ":3: catches everything",
    ),
    "a stub": ("src/nacre/x.py", "def f():\n    raise NotImplementedError('later')\n", ":2: NotImplementedError"),
    "a deferred import": ("src/nacre/x.py", "def f():\n    import torch\n", ":2: import inside a function"),
    "an import by name": (
        "src/nacre/x.py",
        "import importlib\n\n\ndef f():\n    importlib.import_module('torch')\n",
        ":5: import inside a function",
    ),
    "an ignore without reason": ("tests/test_x.py", "A = 1  # noqa: E501\n", ":1: '# noqa: E501' gives no reason"),
    "a type ignore without reason": ("src/nacre/x.py", "A = 1  # type: ignore[misc]\n", ":1: '# type: ignore[misc]'"),
    "a bare type ignore": ("src/nacre/x.py", "A = 1  # type: ignore\n", ":1: '# type: ignore' gives no reason"),
    "unfinished code": ("src/nacre/x.py", f"A = 1  # {UNFINISHED} more\n", f":1: '{UNFINISHED}'"),
    "an unfinished page": ("docs/x.md", f"# X\n\n{UNFINISHED}: write this.\n", f":3: '{UNFINISHED}'"),
    "a dead link": ("docs/x.md", "# X\n\n[gone](nothing.md)\n", ":3: link to nothing.md: there is no such file"),
    "a dead picture": ("docs/x.md", "![gone](images/none.png)\n", ":1: link to images/none.png"),
    "a dead heading": ("docs/x.md", "[part](page.md#part-two)\n", ":1: link to page.md#part-two: the page has no"),
    "a silent README": ("README.zh-CN.md", "Run `make demo`.\n", ":1: does not name make test"),
}


@pytest.mark.parametrize("name", BREACHES)
def test_a_breach_is_named_with_its_line(house: Path, name: str) -> None:
    path, text, expected = BREACHES[name]
    put(house, path, text)
    code, lines = run(house)
    assert code == 1
    assert len(lines) == 2, lines
    assert lines[0].startswith(path + expected)
    assert lines[1] == "1 findings"


def test_an_import_cycle_is_named(house: Path) -> None:
    put(house, "src/nacre/two.py", "import nacre.one\n")
    code, lines = run(house)
    assert code == 1
    assert "import cycle: " in lines[0]
    assert "nacre.one → nacre.two" in lines[0]


@pytest.mark.parametrize(
    "text",
    [
        "A = 1\n" * 400,
        "def f():\n" + "    a = 1\n" * 49,
        "def f():\n    " + LONG_DOCSTRING.replace("\n", "\n    ") + "\n    return 1\n",
        "def f():\n" + "    # why\n\n" * 60 + "    return 1\n",
        "class A:\n    def f(self, a, b, c, d, e, g, h, i):\n        return 1\n",
        "A = 1  # noqa: E501 - the address cannot be broken\n",
    ],
    ids=["400 lines", "50 lines", "a long docstring", "many comments", "self and eight", "a reason"],
)
def test_what_is_just_allowed(house: Path, text: str) -> None:
    put(house, "src/nacre/x.py", text)
    assert run(house)[0] == 0


def test_tests_may_be_long(house: Path) -> None:
    put(house, "tests/test_long.py", "A = 1\n" * 500)
    assert run(house)[0] == 0
