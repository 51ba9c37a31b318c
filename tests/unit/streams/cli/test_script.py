"""Finding the application in a script, and its settings."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.streams.cli.scripts import WORD_COUNT
from thalweg import State
from thalweg.streams.cli.script import ScriptError, load_app
from thalweg.streams.cli.settings import given_settings, log_config
from thalweg.streams.errors import ConfigError, StreamsError

Script = Callable[[str, str], str]

APP = "from thalweg import App, StreamsBuilder\n"
EMPTY = 'builder = StreamsBuilder()\nbuilder.stream("in").to("out")\n'


def refusal(target: str) -> str:
    with pytest.raises(StreamsError) as caught:
        load_app(target, {})
    assert isinstance(caught.value, ScriptError)
    return str(caught.value)


def test_the_only_application_is_found(script: Script) -> None:
    path = script("one.py", WORD_COUNT.replace("app =", "counter ="))

    assert load_app(path, {}).application_id == "word-count"
    assert load_app(f"{path}:counter", {}).application_id == "word-count"


def test_one_called_app_is_meant_where_there_are_several(script: Script) -> None:
    path = script(
        "two.py",
        APP
        + EMPTY
        + 'app = App(builder, application_id="a")\nb = App(builder, application_id="b")',
    )

    assert load_app(path, {}).application_id == "a"
    assert load_app(f"{path}:b", {}).application_id == "b"


def test_of_several_without_that_name_one_has_to_be_named(script: Script) -> None:
    path = script(
        "two.py",
        APP + EMPTY + 'x = App(builder, application_id="x")\ny = App(builder, application_id="y")',
    )

    assert refusal(path) == "two.py has several applications (x, y); say which: two.py:NAME"


def test_one_application_under_two_names_is_one(script: Script) -> None:
    path = script("alias.py", APP + EMPTY + 'x = y = App(builder, application_id="x")')

    assert load_app(path, {}).application_id == "x"


def test_a_module_is_found_in_the_working_directory(script: Script) -> None:
    Path("pkg").mkdir()
    script("pkg/__init__.py", "")
    script("pkg/counting.py", WORD_COUNT)

    assert load_app("pkg.counting:app", {}).application_id == "word-count"


def test_a_script_imports_what_lies_beside_it(script: Script) -> None:
    Path("sub").mkdir()
    script("sub/beside_it.py", "NAME = 'beside'")
    script(
        "sub/main.py",
        APP + "from beside_it import NAME\n" + EMPTY + "app = App(builder, application_id=NAME)",
    )

    assert load_app("sub/main.py", {}).application_id == "beside"


def test_a_script_called_like_a_loaded_module_does_not_stand_in_for_it(script: Script) -> None:
    path = script("json.py", WORD_COUNT)

    load_app(path, {})

    import json

    assert json.loads("1") == 1


def test_a_script_sees_its_own_name_as_argument(script: Script) -> None:
    path = script("args.py", f"import sys\nassert len(sys.argv) == 1, sys.argv\n{WORD_COUNT}")

    load_app(path, {})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1\ndef f(:\n", "bad.py:2: SyntaxError: "),
        ("x = 1\n\nundefined_name\n", "bad.py:3: NameError: name 'undefined_name' is not defined"),
        ("import nowhere_at_all\n", "bad.py:1: ModuleNotFoundError: No module named"),
        ("import sys\nsys.exit(3)\n", "bad.py:2: the script ended itself when it was loaded"),
        ("x = 1\n", "bad.py has no App at module level; make one: app = App(builder, …)"),
        (
            APP + EMPTY + "app = App(builder)",
            "bad.py:4: ConfigError: application_id is not set",
        ),
        (
            APP + EMPTY + 'app = App(builder, application_id="a", commit_interval=5)',
            "bad.py:4: ConfigError: ",
        ),
        (
            APP + 'builder = StreamsBuilder()\nbuilder.stream("in")\nbuilder.stream("in")\n'
            'app = App(builder, application_id="a", topology_optimization="sideways")\n',
            "bad.py:5: ",
        ),
    ],
)
def test_what_is_wrong_with_a_script_is_said_with_its_line(
    script: Script, text: str, said: str
) -> None:
    path = script("bad.py", text)

    assert refusal(path).startswith(said)


def test_an_error_inside_a_library_is_told_by_the_line_of_the_script(script: Script) -> None:
    path = script("lib.py", "import json\n\njson.loads('{')\n")

    assert refusal(path).startswith("lib.py:3: json.decoder.JSONDecodeError: ")


def test_a_syntax_error_in_an_imported_module_names_that_file(script: Script) -> None:
    script("broken_one.py", "x = (\n")
    path = script("importer.py", "import broken_one\n")

    assert "broken_one.py:1: SyntaxError" in refusal(path)


def test_what_is_not_there_is_said(script: Script) -> None:
    Path("folder").mkdir()
    path = script("one.py", WORD_COUNT)

    assert refusal("nope.py") == "there is no file nope.py"
    assert refusal("folder/nope") == "there is no file folder/nope"
    assert refusal("nope_module") == "there is neither a file nor a module 'nope_module'"
    assert refusal("folder") == "folder is a directory; give the script in it"
    assert refusal(f"{path}:nope") == "one.py: 'nope' is not there; its applications: app"
    assert refusal(f"{path}:builder") == (
        "one.py: 'builder' is a StreamsBuilder, no App; its applications: app"
    )


def test_a_file_that_is_no_script_is_refused(tmp_path: Path, script: Script) -> None:
    (tmp_path / "data.py").write_bytes(b"\x00\xff\xfe")

    assert "data.py" in refusal("data.py")
    assert refusal(script("script.txt", WORD_COUNT)) == (
        "script.txt is no Python script: its name has to end in .py"
    )


def test_an_application_that_ran_when_it_was_loaded_is_refused(script: Script) -> None:
    path = script("eager.py", WORD_COUNT + "\napp.close()\n")

    assert 'put app.run() under if __name__ == "__main__":' in refusal(path)


STARTS = {
    "app.run()": "app.run()",
    "app.start()": "app.start()",
    "with app:": "with app:\n    pass",
    "app.clean_up()": "app.clean_up()",
}


@pytest.mark.parametrize("call", STARTS)
def test_an_application_does_not_start_while_its_script_is_loaded(
    script: Script, tmp_path: Path, call: str
) -> None:
    path = script("eager.py", f"{WORD_COUNT}\n{STARTS[call]}\n")
    line = WORD_COUNT.count("\n") + 2

    told = refusal(path)

    assert told.startswith(f"eager.py:{line}: {call} is not for now")
    assert told.endswith(f'put {call} under if __name__ == "__main__":')
    assert not (tmp_path / ".thalweg").exists()


def test_nor_in_a_module_it_imports_or_a_thread_it_starts(script: Script) -> None:
    script("inner.py", WORD_COUNT + "app.run()\n")
    threaded = """
        import threading
        told = []

        def work():
            try:
                app.run()
            except Exception as error:
                told.append(str(error))

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    """
    assert refusal(script("outer.py", "import inner\n")).startswith("outer.py:1: app.run() is not")
    found = load_app(script("threaded.py", WORD_COUNT + textwrap.dedent(threaded)), {})
    assert found.state is State.CREATED
    assert "app.run() is not for now" in sys.modules["threaded"].told[0]


def test_one_under_a_guard_starts_when_it_is_asked_to(script: Script) -> None:
    app = load_app(
        script("guarded.py", WORD_COUNT + '\nif __name__ == "__main__":\n    app.run()\n'), {}
    )
    with app:
        assert app.state is not State.CREATED


# -- settings ------------------------------------------------------------------------------


def test_what_is_given_wins_over_the_script(script: Script) -> None:
    path = script("one.py", WORD_COUNT)

    app = load_app(path, given_settings(["commit_interval_ms=77", "state_dir=s"], None, {}))

    assert (app.config.commit_interval_ms, app.config.state_dir) == (77, Path("s"))
    assert app.config.poll_ms == 10


def test_entries_of_mappings_are_added(script: Script) -> None:
    path = script(
        "one.py", APP + EMPTY + 'app = App(builder, application_id="a", topic_configs={"x": "1"})'
    )
    Path("c.toml").write_text('[topic_configs]\n"y" = "2"\n"retention.ms" = 5\n')

    given = given_settings(["topic_configs.retention.ms=7"], Path("c.toml"), {})
    app = load_app(path, given)

    assert app.config.topic_configs == {"x": "1", "y": "2", "retention.ms": "7"}


def test_set_wins_over_the_file_and_the_file_over_the_script(script: Script) -> None:
    path = script("one.py", WORD_COUNT)
    Path("c.toml").write_text("commit_interval_ms = 60\npoll_ms = 20\n")

    given = given_settings(["commit_interval_ms=77"], Path("c.toml"), {"data_dir": None})
    app = load_app(path, given, Path("c.toml"))

    assert (app.config.commit_interval_ms, app.config.poll_ms) == (77, 20)
    assert os.environ["THALWEG_CONFIG"] == "c.toml"


def test_a_script_may_take_its_id_from_the_file(script: Script) -> None:
    path = script("one.py", APP + EMPTY + "app = App(builder)")
    Path("c.toml").write_text('application_id = "from-file"\n')

    assert load_app(path, {}, Path("c.toml")).application_id == "from-file"


@pytest.mark.parametrize(
    ("pair", "said"),
    [
        ("commit_interval_ms", "--set takes name=value, got 'commit_interval_ms'"),
        ("commit_intervall_ms=5", "'commit_intervall_ms' is not a setting; did you mean"),
        ("commit_interval_ms=soon", "commit_interval_ms cannot be 'soon'; it takes a whole number"),
        ("topic_configs=5", "topic_configs is a mapping; set its entries as topic_configs.<name>="),
        ("poll_ms.x=5", "poll_ms.x: poll_ms is not a mapping"),
        ("commit_interval=5", "commit_interval takes a timedelta; milliseconds are given as"),
    ],
)
def test_a_wrong_setting_is_refused(pair: str, said: str) -> None:
    with pytest.raises(StreamsError) as caught:
        given_settings([pair], None, {})
    assert str(caught.value).startswith(said)


def test_a_setting_that_shaped_the_topology_cannot_be_changed(script: Script) -> None:
    path = script("one.py", WORD_COUNT)

    with pytest.raises(ConfigError, match="was read when the topology was built"):
        load_app(path, given_settings(["topology_optimization=all"], None, {}))
    assert load_app(path, given_settings(["topology_optimization=none"], None, {}))


def test_the_commit_interval_follows_the_log() -> None:
    local = log_config({})
    on_kafka = local.replace(bootstrap_servers="host:9092")

    assert (local.commit_interval_ms, on_kafka.commit_interval_ms) == (1_000, 30_000)
    assert log_config({"commit_interval_ms": 5}).replace(poll_ms=1).commit_interval_ms == 5
