"""Writes a plan as a script of our side and a command of the JVM's, for a bug report.

Owns the text of every operation in Python. `functions.py` has the functions that it names.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping
from typing import Any

Node = Mapping[str, Any]


def python_script(plan: Mapping[str, Any]) -> str:
    """Returns the plan as a program with our test driver."""
    lines = [
        "from tests.differential import functions as f",
        "from thalweg import *",
        "",
        "builder = StreamsBuilder()",
        *(f"n{at} = {_python(node)}" for at, node in enumerate(plan["nodes"])),
        f"config = {dict(plan['config'])!r}",
        "topology = builder.build(config)",
        f"cache_bytes = {plan['config'].get('statestore.cache.max.bytes', 10485760)}",
        "text = {'default_key_serde': 'string', 'default_value_serde': 'string'}",
        "settings = {'application_id': 'app', 'statestore_cache_max_bytes': cache_bytes, **text}",
        f"driver = TopologyTestDriver(topology, commit={plan['commit']!r}, **settings)",
    ]
    for step in plan["steps"]:
        if "commit" in step:
            lines.append("driver.commit()")
        elif "advance_wall_clock_ms" in step:
            lines.append(f"driver.advance_wall_clock_time({step['advance_wall_clock_ms']})")
        else:
            key, value = _text(step["key"]), _text(step["value"])
            headers = [
                (n, None if v is None else bytes.fromhex(v)) for n, v in step.get("headers", ())
            ]
            lines.append(
                f"driver.pipe_raw({step['topic']!r}, {_raw(key)}, {_raw(value)}, "
                f"{step['timestamp']}{f', {headers!r}' if headers else ''})"
            )
        lines.append("print(driver.take_produced())")
    return "\n".join(lines)


def java_command(plan: Mapping[str, Any]) -> str:
    """Returns the command that runs the plan on the JVM."""
    return f"python -m tests.differential --jvm {shlex.quote(json.dumps(plan))}"


def _text(data: str | None) -> str | None:
    return None if data is None else bytes.fromhex(data).decode()


def _raw(text: str | None) -> str:
    return "None" if text is None else repr(text.encode())


def _python(node: Node) -> str:
    of = [f"n{above}" for above in node.get("of", ())]
    function = f"f.{'KEYS' if node['op'] == 'select_key' else _table_of(node)}[{node.get('fn')!r}]"
    kept = _python_store(node)
    one = of[0] if of else "builder"
    join = "join" if node.get("kind") == "inner" else f"{node.get('kind')}_join"
    texts: dict[str, Callable[[], str]] = {
        "stream": lambda: f"builder.stream({node['topic']!r})",
        "table": lambda: f"builder.table({node['topic']!r}{kept})",
        "global_table": lambda: f"builder.global_table({node['topic']!r}{kept})",
        "filter": lambda: f"{one}.filter({function})",
        "map_values": lambda: f"{one}.map_values({function})",
        "select_key": lambda: f"{one}.select_key({function})",
        "flat_map": lambda: f"{one}.flat_map(f.spread)",
        "flat_map_values": lambda: f"{one}.flat_map_values(f.letters)",
        "merge": lambda: f"{one}.merge({of[1]})",
        "repartition": lambda: f"{one}.repartition()",
        "to_table": lambda: f"{one}.to_table({kept[2:]})",
        "aggregate": lambda: f"{_grouped(one, node)}{_windowed(node)}.{_aggregation(node)}",
        "cogroup": lambda: (
            f"{_grouped(one, node)}.cogroup(f.add)"
            + "".join(
                f".cogroup({_grouped(each, node)}, f.{'add' if at % 2 else 'take'})"
                for at, each in enumerate(of[1:])
            )
            + f"{_windowed(node)}.aggregate(str{kept})"
        ),
        "stream_join": lambda: (
            f"{one}.{join}({of[1]}, f.joined, JoinWindows.of_time_difference({node['before']}, "
            f"{node['grace']}).after({node['after']}))"
        ),
        "table_lookup": lambda: f"{one}.{join}({of[1]}, f.joined{_grace(node)})",
        "global_lookup": lambda: (
            f"{one}.{join}({of[1]}, f.joined, key_selector=f.KEYS[{node['by']!r}])"
        ),
        "table_filter": lambda: f"{one}.filter({function}{kept})",
        "table_map_values": lambda: f"{one}.map_values({function}{kept})",
        "windowed_map_values": lambda: f"{one}.map_values(lambda v: v and f.cut(v + '!'))",
        "table_group": lambda: (
            f"{one}.group_by(lambda k, v: (f.KEYS[{node['by']!r}](k, v), v))."
            f"{_table_aggregation(node)}"
        ),
        "table_join": lambda: (
            f"{one}.{join}({of[1]}, f.{'joined' if node['fn'] == 'joined' else 'joined_or_none'}{kept})"
        ),
        "foreign_key_join": lambda: (
            f"{one}.{join}({of[1]}, f.joined, foreign_key_extractor=f.foreign{kept})"
        ),
        "suppress": lambda: f"{one}.suppress({_suppressed(node)})",
        "to_stream": lambda: f"{one}.to_stream()",
        "windowed_to_stream": lambda: (
            f"{one}.to_stream(lambda k, v: f'{{k.key}}@{{k.window.start_ms}}-{{k.window.end_ms}}')"
        ),
        "to": lambda: f"{one}.to({node['topic']!r})",
    }
    return texts[node["op"]]()


def _table_of(node: Node) -> str:
    return "PREDICATES" if node["op"].endswith("filter") else "VALUES"


def _python_store(node: Node) -> str:
    store = node.get("store")
    if store is None:
        return ""
    if "history_ms" in node:
        return f", materialized=Materialized(store=versioned_store({store['name']!r}, {node['history_ms']}))"
    options = [repr(store.get("name"))]
    options += ["store='memory'"] if "memory" in store else []
    options += [f"{name}=False" for name in ("caching", "logging") if store.get(name) is False]
    return f", materialized=Materialized({', '.join(options)})"


def _grouped(stream: str, node: Node) -> str:
    return (
        f"{stream}.group_by(f.KEYS[{node['by']!r}])" if "by" in node else f"{stream}.group_by_key()"
    )


def _windowed(node: Node) -> str:
    windows = node.get("windows")
    if windows is None:
        return ""
    made = {
        "session": lambda: (
            f"SessionWindows.of_inactivity_gap({windows['gap']}, {windows['grace']})"
        ),
        "sliding": lambda: (
            f"SlidingWindows.of_time_difference({windows['size']}, {windows['grace']})"
        ),
        "time": lambda: (
            f"TimeWindows.of_size({windows['size']}, {windows['grace']})"
            f".advance_by({windows['advance']})"
        ),
    }[windows["kind"]]()
    emit = ".emit_strategy(EmitStrategy.on_window_close())" if node.get("emit") == "close" else ""
    return f".windowed_by({made}){emit}"


def _aggregation(node: Node) -> str:
    kept = _python_store(node)
    if node["kind"] == "count":
        return f"count({kept[2:]}).map_values(str)"
    if node["kind"] == "reduce":
        return f"reduce(f.reduce{kept})"
    merger = ", f.merge_sessions" if node.get("windows", {}).get("kind") == "session" else ""
    adder = "add_or_drop" if node["kind"] == "aggregate_or_drop" else "add"
    return f"aggregate(str, f.{adder}{merger}{kept})"


def _table_aggregation(node: Node) -> str:
    kept = _python_store(node)
    if node["kind"] == "count":
        return f"count({kept[2:]}).map_values(str)"
    if node["kind"] == "reduce":
        return f"reduce(f.reduce, f.unreduce{kept})"
    return f"aggregate(str, f.add, f.take{kept})"


def _grace(node: Node) -> str:
    return f", grace={node['grace']}" if "grace" in node else ""


def _suppressed(node: Node) -> str:
    if node["until"] == "closed":
        return "Suppressed.until_window_closes()"
    bounds = [f"{name}={node[name]}" for name in ("max_records", "max_bytes") if name in node]
    buffer = f", BufferConfig({bounds[0]}).emit_early_when_full()" if bounds else ""
    return f"Suppressed.until_time_limit({node['limit_ms']}{buffer})"
