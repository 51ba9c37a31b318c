"""`thalweg topology`: what a script's topology looks like.

Owns the choice of format and the form of the JSON. It must not know how a topology is built.
"""

from __future__ import annotations

import json
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from thalweg.streams.cli import options
from thalweg.streams.cli.exits import told

if TYPE_CHECKING:
    from thalweg.streams.app import App


class TopologyFormat(StrEnum):
    """How a topology is written."""

    TEXT = "text"
    MERMAID = "mermaid"
    JSON = "json"


@told
def topology(
    script: options.Script,
    *,
    form: Annotated[
        TopologyFormat,
        typer.Option("--format", help="The JVM's text, a Mermaid flowchart, or JSON."),
    ] = TopologyFormat.TEXT,
    settings: options.Set = None,
    config: options.Config = None,
) -> None:
    """Shows the topology of a script: subtopologies, nodes, topics and stores.

    Nothing is started and nothing is written. A Mermaid flowchart is shown as a picture by
    many readers of Markdown, in a block that begins with ```mermaid.
    """
    from thalweg.streams.cli.script import load_app
    from thalweg.streams.cli.settings import given_settings

    app = load_app(script, given_settings(settings or (), config, {}), config)
    description = app.topology.describe()
    if form is TopologyFormat.MERMAID:
        typer.echo(description.mermaid(), nl=False)
    elif form is TopologyFormat.JSON:
        typer.echo(json.dumps(_plain(app), indent=2, ensure_ascii=False))
    else:
        typer.echo(str(description), nl=False)


def _plain(app: App) -> dict[str, Any]:
    """Returns the topology made of what JSON knows; names of topics are those in the log."""
    from thalweg.topology.subtopologies import subtopologies

    parts = {part.id: part for part in subtopologies(app.topology, app.config.topology_config)}
    rows = []
    for described in app.topology.describe().subtopologies:
        part = parts[described.id]
        rows.append(
            {
                "id": described.id,
                "is_global": described.is_global,
                "source_topics": list(part.source_topics),
                "source_patterns": list(part.source_topic_regex),
                "repartition_topics": [topic.name for topic in part.repartition_source_topics],
                "changelog_topics": [topic.name for topic in part.state_changelog_topics],
                "stores": list(part.stores),
                "nodes": [
                    {
                        "kind": node.kind.value.lower(),
                        "name": node.name,
                        "topics": list(node.topics),
                        "stores": list(node.stores),
                        "successors": list(node.successors),
                        "predecessors": list(node.predecessors),
                    }
                    for node in described.nodes
                ],
            }
        )
    return {"application_id": app.application_id, "subtopologies": rows}
