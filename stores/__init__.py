"""State and bytes: stores, their layers and backends. Usable alone; imports none of ours."""
