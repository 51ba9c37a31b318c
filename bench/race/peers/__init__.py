"""Contenders from other projects, each run by an interpreter that has its library."""
