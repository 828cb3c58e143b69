"""The documentation shows nothing that does not exist: commands with their options, links, settings, files, names.

What is wrong with a page comes back as sentences, so that the same functions are tried here on pages that are wrong.
Whether a sentence of a page is true, no test knows; what can be run cheaply is run.
"""

from __future__ import annotations

import argparse
import importlib
import io
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import typer
import yaml
from markdown_it import MarkdownIt
from markdown_it.token import Token
from pydantic import ValidationError
from typer.testing import CliRunner

from bentos.fraud_scorer.requests import AnswerRequest, FeedbackRequest, ScoreRequest
from bentos.fraud_scorer.transactions import RequestError, TransactionReader
from fraud_assets.cli import app
from fraud_assets.core.contracts.contract import load_contract
from fraud_assets.settings import PROJECT_ROOT, Settings

README = PROJECT_ROOT / "README.md"
SUBJECTS = sorted((PROJECT_ROOT / "docs").glob("*.md"))
PAGES = [
    README, PROJECT_ROOT / "CONTRIBUTING.md", *SUBJECTS,
    PROJECT_ROOT / "contracts" / "README.md", PROJECT_ROOT / "benchmarks" / "README.md",
]  # fmt: skip
MAKEFILE = (PROJECT_ROOT / "Makefile").read_text(encoding="utf-8")
PROGRAMS = Path(sys.executable).parent
COMMANDS = frozenset(
    {"fraud", "make", "python", "curl", "docker", "bash", "cp", "export", "dg", "dagster", "kubectl", "helm", "sed"}
)
TOOLS = frozenset({"uv", "ruff", "mypy", "pre-commit", "lint-imports", "dg", "dagster"})
# BentoML's own, beside those of the service.
ROUTES = frozenset({"/", "/healthz", "/livez", "/readyz", "/metrics"})
# Where what a page names is no part of the repository: what is made on the way, what lies beside it, a kind of content.
ELSEWHERE = (".fraud", ".venv", ".venv-peers", ".env", "../shared", "/tmp/", "application/", "contracts/pagos.yaml")
# What stands in a command for something of the reader's own, where a type asks for more than a word.
PLACEHOLDERS = {"DATE": "2025-01-31", "N": "1", "VERSION": "1"}
# What answers at once, also where nothing has run.
READS = (
    "status",
    "drift",
    "versions",
    "alerts list",
    "retraining list",
    "quarantine list",
    "labels completeness",
    "db --query",
)


@dataclass(frozen=True)
class Page:
    """A page of the documentation.

    Attributes:
        path: of its file, from which its links count.
        text: as written.
    """

    path: Path
    text: str

    @cached_property
    def tokens(self) -> list[Token]:
        """Every token of it, also those within a line."""
        blocks = MarkdownIt("commonmark").enable("table").parse(self.text)
        return [token for block in blocks for token in (block, *(block.children or ()))]

    @cached_property
    def spans(self) -> list[str]:
        """What stands in backticks within a line."""
        return [token.content.strip() for token in self.tokens if token.type == "code_inline"]

    def blocks(self, language: str) -> list[str]:
        """Its blocks of code in a language; "" for those that name none."""
        return [token.content for token in self.tokens if token.type == "fence" and token.info.strip() == language]

    @cached_property
    def anchors(self) -> set[str]:
        """What a link can lead to within it: its headings, as GitHub writes them."""
        titles = [
            after.content
            for token, after in zip(self.tokens, self.tokens[1:], strict=False)
            if token.type == "heading_open"
        ]
        return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def read_page(path: Path) -> Page:
    """A page from its file."""
    return Page(path, path.read_text(encoding="utf-8"))


def wrong(page: Page) -> list[str]:
    """Everything on a page that does not exist, in sentences."""
    return [
        *dict.fromkeys(
            [
                *_wrong_commands(page),
                *_dead_links(page),
                *_unknown_variables(page),
                *_missing_files(page),
                *_unknown_options(page),
                *_unknown_names(page),
            ]
        )
    ]


# Commands


def shell_lines(block: str) -> Iterator[list[str]]:
    """The commands of a block, each in words; one may go over several lines."""
    open_lines = ""
    for line in block.splitlines():
        open_lines += line + "\n"
        if line.endswith("\\"):
            continue
        try:
            words = shlex.split(open_lines, comments=True)
        except ValueError:  # a quote is open
            continue
        open_lines = ""
        if words:
            yield words
    assert not open_lines, f"a command does not end: {open_lines}"


def _commands(page: Page) -> Iterator[tuple[list[str], bool]]:
    """The commands that a page shows, each with whether it is whole; within a line it may lack what it requires."""
    for block in page.blocks("sh"):
        yield from ((words, True) for words in shell_lines(block))
    for span in page.spans:
        try:
            words = shlex.split(span)
        except ValueError:
            continue
        _, rest = _without_assignments(words)
        if (len(rest) > 1 and rest[0] in COMMANDS) or (rest and rest[0].startswith(".venv/bin/")):
            yield words, False


def _without_assignments(words: list[str]) -> tuple[dict[str, str], list[str]]:
    rest = words[1:] if words[:1] == ["export"] else words
    given: dict[str, str] = {}
    while rest and (found := re.fullmatch(r"([A-Z_]+)=(.*)", rest[0], re.DOTALL)):
        given[found[1]] = found[2]
        rest = rest[1:]
    return given, rest


def _wrong_commands(page: Page) -> Iterator[str]:
    for words, whole in _commands(page):
        given, rest = _without_assignments(words)
        said = _wrong_settings(given) or (_wrong_command(rest, whole=whole) if rest else None)
        if said:
            yield f"`{' '.join(words)}`: {said}"


def _wrong_settings(given: dict[str, str]) -> str | None:
    values: dict[str, Any] = {name.removeprefix("FRAUD_").lower(): value for name, value in given.items()}
    try:
        Settings(**{name: value for name, value in values.items() if name in Settings.model_fields})
    except ValidationError as error:
        return str(error)
    return None


def _wrong_command(words: list[str], *, whole: bool) -> str | None:
    """Why a command cannot be run as it is shown; None when it can."""
    program, arguments = words[0].removeprefix(".venv/bin/"), words[1:]
    if program == "fraud":
        return _wrong_fraud(arguments, whole=whole)
    if program == "make":
        return _wrong_make(arguments)
    if program == "python":
        return _wrong_module(arguments)
    if program == "curl":
        return _wrong_request(arguments)
    if program == "docker" and arguments[:1] == ["compose"]:
        return _wrong_compose(arguments)
    if program in ("docker", "kubectl", "helm"):
        return _wrong_on_a_cluster(arguments)
    if program in ("bash", "cp", "sh"):
        return None if (PROJECT_ROOT / arguments[0]).exists() else f"there is no {arguments[0]}"
    if program in TOOLS:
        return _wrong_tool(program, arguments)
    if program == "sed":  # of the tutorial, which a test of its own runs
        return None
    return f"{program} is no program that this test knows"


def _wrong_fraud(arguments: list[str], *, whole: bool) -> str | None:
    """What the command's own parser says, with nothing behind it."""
    group = typer.main.get_command(app)
    _empty(group)
    said = io.StringIO()
    # Help comes before what a command requires, and after what no command knows.
    words = [PLACEHOLDERS.get(word, word) for word in arguments] + ([] if whole else ["--help"])
    with redirect_stderr(said), redirect_stdout(io.StringIO()):
        try:
            group.main(words, prog_name="fraud")
        except SystemExit as end:
            return said.getvalue() if end.code else None
    return None


def _empty(command: Any) -> None:
    command.callback = None
    for one in getattr(command, "commands", {}).values():
        _empty(one)


def _wrong_make(arguments: list[str]) -> str | None:
    for name, _, value in (word.partition("=") for word in arguments):
        if value and f"$({name})" not in MAKEFILE:
            return f"the Makefile does not use {name}"
    done = subprocess.run(["make", "--dry-run", *arguments], cwd=PROJECT_ROOT, capture_output=True, text=True)
    return done.stderr or None


def _wrong_module(arguments: list[str]) -> str | None:
    if arguments[0].endswith(".py"):
        return None  # `_missing_files` looks for it
    if arguments[0] != "-m":
        return "this test knows `python -m` and files only"
    name, rest = arguments[1], [PLACEHOLDERS.get(word, word) for word in arguments[2:] if word not in ("...]", "[")]
    if name == "pytest":
        missing = [word for word in rest if not word.startswith("-") and not (PROJECT_ROOT / word).exists()]
        return f"there is no {missing[0]}" if missing else None
    if not name.startswith("benchmarks."):
        return f"{name} is no module that this test knows"
    said = io.StringIO()
    try:
        with redirect_stderr(said):
            _parser_of(name).parse_args(rest)
    except ModuleNotFoundError as error:
        return str(error)
    except SystemExit as end:
        return said.getvalue() if end.code else None
    return None


@cache
def _parser_of(module: str) -> argparse.ArgumentParser:
    """The parser of a benchmark, taken from it when it is about to read its arguments."""
    built: list[argparse.ArgumentParser] = []

    class Built(BaseException):
        pass

    def keep(parser: argparse.ArgumentParser, *_: Any, **__: Any) -> None:
        built.append(parser)
        raise Built

    main = importlib.import_module(module).main
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", keep)
        with pytest.raises(Built):
            main()
    return built[0]


def _wrong_tool(program: str, arguments: list[str]) -> str | None:
    if not (PROGRAMS / program).exists():
        return f"{program} is not installed by `make setup`"
    n_words = next((number for number, word in enumerate(arguments) if word.startswith("-")), len(arguments))
    # uv's help hides some; what the Makefile gives it, `make lock` tries.
    helped = _help(program, *arguments[:n_words]) + MAKEFILE
    missing = [
        word for word in arguments if word.startswith("-") and not re.search(rf"(?<![\w-]){word}(?![\w-])", helped)
    ]
    return f"no option {missing[0]}" if missing else None


@cache
def _help(program: str, *words: str) -> str:
    command = [str(PROGRAMS / program), *words, "--help"]
    done = subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True, text=True, timeout=120)
    return done.stdout if done.returncode == 0 else ""


def _wrong_request(arguments: list[str]) -> str | None:
    """What the service would refuse of a request, before it looks at its model."""
    url = next(word for word in arguments if "localhost" in word)
    if (path := urlsplit(url if "//" in url else f"http://{url}").path) not in _routes():
        return f"the service has no {path}"
    if "-d" not in arguments:
        return None
    body = json.loads(arguments[arguments.index("-d") + 1])
    contract = load_contract(PROJECT_ROOT / "contracts" / "simulator.yaml")
    try:
        if other := {"/v1/feedback": FeedbackRequest, "/v1/approve": AnswerRequest}.get(path):
            other.model_validate(body)
            return None
        request = ScoreRequest.model_validate(body)
        # Those of the tutorial's own file, whose contract it drafts, a test of its own sends.
        if "Referencia" not in (request.transactions or [{}])[0]:
            TransactionReader(contract).read(request.transactions or [], request.names)
    except (ValidationError, RequestError) as error:
        return str(error)
    return None


@cache
def _routes() -> frozenset[str]:
    files = [PROJECT_ROOT / "bentos" / "fraud_scorer" / name for name in ("service.py", "pages.py")]
    source = "".join(file.read_text(encoding="utf-8") for file in files)
    return ROUTES | frozenset(re.findall(r'(?:route=|Route\()"(/[\w./]+)"', source))


def _wrong_compose(arguments: list[str]) -> str | None:
    """Services that docker-compose.yml does not have, and commands within them; docker itself need not be there."""
    if arguments[1] not in ("up", "exec", "run", "restart"):
        return "this test knows `docker compose` with up, exec, run and restart only"
    words = [word for word in arguments[2:] if not word.startswith("--")]
    services = yaml.safe_load((PROJECT_ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
    if words and words[0] not in services:
        return f"docker-compose.yml has no service {words[0]}"
    if arguments[1] == "exec" and "psql" in words:
        file, mounts = words[-1], services[words[0]]["volumes"]
        return None if any(one.split(":")[1] == file for one in mounts) else f"{words[0]} has no {file}"
    within = arguments[1] in ("exec", "run")
    return _wrong_command(arguments[arguments.index(words[0]) + 1 :], whole=True) if within else None


def _wrong_on_a_cluster(arguments: list[str]) -> str | None:
    """Files and services that a command of docker, kubectl or helm names; none of these programs need be there."""
    folder = PROJECT_ROOT / "deploy" / "kubernetes"
    known = {f"{one['kind'].lower()}/{one['metadata']['name']}" for file in folder.glob("*.yaml")
             for one in yaml.safe_load_all(file.read_text(encoding="utf-8")) if "kind" in one}  # fmt: skip
    values = yaml.safe_load((folder / "dagster-values.yaml").read_text(encoding="utf-8"))
    # As the chart calls what it makes, in a release that is called dagster.
    known |= {f"deployment/dagster-dagster-user-deployments-{one['name']}"
              for one in values["dagster-user-deployments"]["deployments"]} | {"service/dagster-webserver"}  # fmt: skip
    end = arguments.index("--") if "--" in arguments else len(arguments)
    for word in arguments[:end]:
        if word.startswith("deploy/") and not (PROJECT_ROOT / word).exists():
            return f"there is no {word}"
        if re.match(r"(job|service|deployment)/", word) and word not in known:
            return f"deploy/kubernetes has no {word}"
    return _wrong_command(arguments[end + 1 :], whole=True) if end < len(arguments) else None


# Links, variables, files, names


def _dead_links(page: Page) -> Iterator[str]:
    for token in page.tokens:
        target = token.attrGet({"link_open": "href", "image": "src"}.get(token.type, ""))
        if not target or urlsplit(str(target)).scheme:
            continue
        name, _, anchor = str(target).partition("#")
        file = (page.path.parent / name).resolve() if name else page.path
        if not file.exists():
            yield f"{target} leads nowhere"
        elif anchor and anchor not in (page.anchors if file == page.path else read_page(file).anchors):
            yield f"{target} names a heading that {file.name} has not"


def _unknown_variables(page: Page) -> Iterator[str]:
    known = {f"FRAUD_{name.upper()}" for name in Settings.model_fields}
    for name in sorted(set(re.findall(r"\bFRAUD_[A-Z_]+", page.text)) - known - {"FRAUD_"}):
        yield f"{name} is no setting"


def _missing_files(page: Page) -> Iterator[str]:
    """Files and routes that are named in backticks, in a command, or at the start of a line of a layout."""
    for name in _named_files(page):
        if name.startswith(ELSEWHERE) or re.search(r"\b(NAME|FILE|DIR)\b", name):
            continue
        if name.startswith("/"):
            if name not in _routes():
                yield f"the service has no {name}"
        elif not any((folder / name).exists() for folder in (page.path.parent, PROJECT_ROOT)):
            yield f"there is no {name}"


def _named_files(page: Page) -> list[str]:
    spans = [span for span in page.spans if re.fullmatch(r"\.{0,2}[\w/.-]+", span)]
    suffix = re.compile(r"[\w-]*\w\.(py|md|yaml|yml|toml|lock|png|example)")
    named = [span for span in spans if "/" in span.strip(".") or suffix.fullmatch(span)]
    named += re.findall(r"^([\w.]+/[\w./]*)\s", "\n".join(page.blocks("")), re.MULTILINE)
    for block in page.blocks("sh"):
        for words in shell_lines(block):
            given, rest = _without_assignments(words)
            ours = re.compile(r"(contracts|examples|benchmarks)(/[\w/.-]*)?")
            named += [word for word in (*given.values(), *rest) if ours.fullmatch(word)]
    return named


def _unknown_options(page: Page) -> Iterator[str]:
    """Options that are named alone, of any command that the pages show."""
    for span in page.spans:
        if (option := span.split(" ")[0]).startswith("--") and not re.search(
            rf"(?<![\w-]){option}(?![\w-])", _options()
        ):
            yield f"no command has {option}"


@cache
def _options() -> str:
    options: list[str] = []

    def gather(command: Any) -> None:
        for parameter in command.params:
            options.extend([*parameter.opts, *parameter.secondary_opts])
        for one in getattr(command, "commands", {}).values():
            gather(one)

    gather(typer.main.get_command(app))
    sources = "\n".join(file.read_text(encoding="utf-8") for file in (PROJECT_ROOT / "benchmarks").glob("*.py"))
    options += re.findall(r'add_argument\(\s*"(--[\w-]+)"', sources)
    return "\n".join([*options, _help("uv", "pip", "compile")])


def _unknown_names(page: Page) -> Iterator[str]:
    known = _sources() + "".join(page.blocks("yaml"))
    for span in page.spans:
        if re.fullmatch(r"[a-z]+(_[a-z0-9]+)+", span) and span not in known:
            yield f"nothing is called {span}"


@cache
def _sources() -> str:
    """All that names of tables, columns, checks, sensors, fields and values can come from."""
    folders = ("fraud_assets", "bentos", "benchmarks", "contracts", "deploy")
    files = [
        file
        for folder in folders
        for suffix in ("py", "yaml", "json")
        for file in sorted((PROJECT_ROOT / folder).rglob(f"*.{suffix}"))
    ]
    return "\n".join(file.read_text(encoding="utf-8") for file in files)


# The pages as they are


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(PROJECT_ROOT).as_posix())
def test_a_page_shows_nothing_that_does_not_exist(path: Path) -> None:
    assert wrong(read_page(path)) == []


def test_the_readme_has_at_most_1200_words() -> None:
    assert len(README.read_text(encoding="utf-8").split()) <= 1200


@pytest.mark.parametrize("path", SUBJECTS, ids=lambda path: path.name)
def test_a_page_of_the_docs_has_at_most_900_words_apart_from_tables(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(" ".join(line for line in lines if not line.startswith("|")).split()) <= 900


def test_every_page_can_be_reached_from_the_readme() -> None:
    seen: set[Path] = set()
    waiting = [README]
    while waiting:
        page = read_page(waiting.pop())
        seen.add(page.path)
        links = [str(token.attrGet("href")).partition("#")[0] for token in page.tokens if token.type == "link_open"]
        waiting += [
            file for link in links if (file := (page.path.parent / link).resolve()) in PAGES and file not in seen
        ]
    assert seen == set(PAGES)


def test_the_docs_say_of_each_command_which_question_it_answers() -> None:
    def leaves(command: Any, *words: str) -> list[str]:
        commands = getattr(command, "commands", {})
        below = [leaf for name, one in commands.items() for leaf in leaves(one, *words, name)]
        return below or [" ".join(words)]

    index = read_page(PROJECT_ROOT / "docs" / "README.md")
    shown = " ".join(index.spans) + " "
    assert [leaf for leaf in leaves(typer.main.get_command(app)) if f"fraud {leaf} " not in shown] == []


def test_the_sizing_page_says_what_was_measured() -> None:
    """Each figure as the newest result has it, to the digits that the page gives, with its day and its command."""
    lines = (PROJECT_ROOT / "docs" / "sizing.md").read_text(encoding="utf-8").splitlines()
    row = re.compile(r"\|[^|]+\| `(\w+)` \| ([\d.,]+) \|[^|]*\| `make bench-(\w+)` \| (\S+) \|")
    rows = [found.groups() for line in lines if (found := row.fullmatch(line))]
    assert len(rows) == sum(line.startswith("|") for line in lines) - 2 * sum(line.startswith("|---") for line in lines)
    for name, shown, command, date in rows:
        file = PROJECT_ROOT / "benchmarks" / "results" / f"{command}.json"
        [newest] = [figure for figure in json.loads(file.read_text(encoding="utf-8")) if figure["name"] == name]
        digits = len(shown.partition(".")[2])
        now = f"{newest['value']:,.{digits}f}", newest["date"]
        assert (shown, date) == now, f"docs/sizing.md has {name} {shown} of {date}; measured is {now[0]} of {now[1]}"


# What answers at once, run


def _reading_commands() -> list[list[str]]:
    shown = [_without_assignments(words)[1] for path in PAGES for words, _ in _commands(read_page(path))]
    found = [words[1:] for words in shown if words and words[0].removeprefix(".venv/bin/") == "fraud"]
    whole = [words for words in found if not {"TABLE", "SQL", "MONTH"} & set(words)]
    return [list(words) for words in sorted({tuple(words) for words in whole if " ".join(words).startswith(READS)})]


@pytest.mark.usefixtures("empty_home")
@pytest.mark.parametrize("words", _reading_commands(), ids=" ".join)
def test_a_command_that_reads_answers_before_anything_has_run(words: list[str]) -> None:
    done = CliRunner().invoke(app, words)
    assert isinstance(done.exception, SystemExit | None), done.exception
    assert done.exit_code == 0 or done.stderr.startswith("error: "), done.output


@pytest.mark.parametrize("verb", ["check", "draft"])
def test_the_contract_commands_of_the_docs_work_on_the_example(verb: str) -> None:
    block = "\n".join(read_page(PROJECT_ROOT / "docs" / "data.md").blocks("sh"))
    [words] = [
        words[1:] for words in shell_lines(block) if words[1:3] == ["contract", verb] and "examples" in " ".join(words)
    ]
    done = CliRunner().invoke(
        app, [str(PROJECT_ROOT / word) if "/" in word or word == "examples" else word for word in words]
    )
    assert done.exit_code == 0, done.output


# Pages that are wrong


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("`fraud statsu --json`", "No such command"),
        ("`fraud status --jsn`", "No such option"),
        ("```sh\n.venv/bin/fraud drift --month 2025-06\n```", "No such option"),
        ("```sh\nfraud promote 5\n```", "--reason"),
        ("```sh\nfraud promote five --reason better\n```", "integer"),
        ("```sh\nfraud status 2025-06\n```", "unexpected extra argument"),
        ("`make demos now`", "No rule"),
        ("`make bench-drift KEPT=folder`", "does not use KEPT"),
        ("`python -m benchmarks.platform --only some`", "invalid choice"),
        ("`python -m benchmarks.plattform`", "No module named"),
        ("`python -m pytest fraud_assets_tests/kern`", "there is no fraud_assets_tests/kern"),
        ("```sh\n.venv/bin/uv pip compile pyproject.toml --generate-hashs\n```", "no option --generate-hashs"),
        ("```sh\nwget localhost\n```", "is no program"),
        ("```sh\ncurl localhost:5000/scores -d '{}'\n```", "the service has no /scores"),
        ("```sh\ncurl localhost:5000/score -d '{\"transactions\": [{\"amount\": 1}]}'\n```", "transaction_id"),
        ("```sh\ndocker compose exec postgres psql --file /roles.sql\n```", "postgres has no /roles.sql"),
        ("```sh\ndocker compose restart scorer\n```", "no service scorer"),
        ("```sh\ndocker build --file deploy/Dockerfil .\n```", "there is no deploy/Dockerfil"),
        ("```sh\nkubectl apply --filename deploy/kubernetes/scorer.yaml\n```", "deploy/kubernetes/scorer.yaml"),
        ("```sh\nkubectl port-forward service/scorer 5000\n```", "has no service/scorer"),
        ("```sh\nkubectl exec deployment/scoring -- fraud statsu\n```", "No such command"),
        ("```sh\n.venv/bin/python examples/write_nothing.py f.csv\n```", "examples/write_nothing.py"),
        ("```sh\ndocker compose exec dagster-code fraud run --form 2025-01\n```", "No such option"),
        ("```sh\ndocker compose run --rm dagster-code fraud restore --farce\n```", "No such option"),
        ("```sh\nFRAUD_SOURCE=cvs .venv/bin/fraud run\n```", "Input should be"),
        ("```sh\nFRAUD_CONTRACT=contracts/nobody.yaml .venv/bin/fraud run\n```", "there is no contracts/nobody.yaml"),
        ("[a page](docs/nowhere.md)", "docs/nowhere.md leads nowhere"),
        ("![a picture](docs/nothing.png)", "docs/nothing.png leads nowhere"),
        ("[a heading](docs/drift.md#no-such)", "names a heading"),
        ("[a heading](#no-such)", "names a heading"),
        ("Set FRAUD_HOUSE.", "FRAUD_HOUSE is no setting"),
        ("`fraud_assets/core/drift.py`", "there is no fraud_assets/core/drift.py"),
        ("```\nfraud_assets/kern/   the science\n```", "there is no fraud_assets/kern/"),
        ("`setings.py`", "there is no setings.py"),
        ("`--not-there`", "no command has --not-there"),
        ("the table `raw_transaction_rows`", "nothing is called raw_transaction_rows"),
    ],
)  # fmt: skip
def test_what_a_page_has_wrong_is_named(text: str, said: str) -> None:
    [found] = wrong(Page(PROJECT_ROOT / "README.md", text))
    assert said in " ".join(found.replace("│", " ").split())


@pytest.mark.parametrize(
    "text",
    [
        "`fraud promote`", "`fraud run --from 2025-01`", "`make bench-datasets DATA=FILE`", "`/score`",
        "`docs/drift.md`",
        "[here](#here)\n\n# Here\n", "`raw_transactions`", "`--no-refresh`", "[elsewhere](https://example.com/nowhere)",
        "`python -m benchmarks.tabular --data FILE --contract FILE --test-from DATE`", "`contracts/NAME.yaml`",
    ],
)  # fmt: skip
def test_what_exists_is_not_called_wrong(text: str) -> None:
    assert wrong(Page(PROJECT_ROOT / "README.md", text)) == []
